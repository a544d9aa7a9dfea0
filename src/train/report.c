/* How evenly a step's tokens fell on the experts. */
#include <math.h>

#include "train/trainer.h"

void mixt_report_load(const mixt_trainer *trainer, mixt_step_report *report)
{
    int layers = trainer->graph->moe_layers, experts = trainer->model->router.experts;
    const mixt_model_options *o = &trainer->model->options;
    int64_t dead = 0, all = 0, identity = 0, zero = 0;
    double effective = 0, worst = 0, violation = 0;
    for (int layer = 0; layer < layers; layer++) {
        const int64_t *counts = trainer->counts + (size_t)layer * (size_t)experts;
        int64_t sum = 0, most = 0;
        for (int e = 0; e < experts; e++) {
            sum += counts[e];
            most = counts[e] > most ? counts[e] : most;
            dead += counts[e] == 0;
            identity += e >= o->experts && e < o->experts + o->identity_experts ? counts[e] : 0;
            zero += e >= o->experts + o->identity_experts ? counts[e] : 0;
        }
        all += sum;
        double entropy = 0;
        for (int e = 0; e < experts && sum > 0; e++) {
            double p = (double)counts[e] / (double)sum;
            entropy -= p > 0 ? p * log(p) : 0;
        }
        double ratio = sum > 0 ? (double)most * experts / (double)sum : 0;
        worst = ratio > worst ? ratio : worst;
        violation += ratio > 1 ? ratio - 1 : 0;
        effective += exp(entropy) / experts;
    }
    report->load_max_over_mean = worst;
    report->max_violation = layers > 0 ? violation / layers : 0;
    report->dead_fraction = layers > 0 ? (double)dead / ((double)layers * experts) : 0;
    report->effective_experts = layers > 0 ? effective / layers : 0;
    report->identity_share = all > 0 ? (double)identity / (double)all : 0;
    report->zero_share = all > 0 ? (double)zero / (double)all : 0;
}
