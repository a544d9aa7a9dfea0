#include "convert_report.h"

#include <math.h>

#include "terminal.h"

static double perplexity(const mixt_fidelity *fidelity, int which)
{
    return exp(fidelity->nats[which] / (double)fidelity->tokens);
}

static void print_types(const mixt_model_info *info)
{
    double all = 0;
    for (int i = 0; i < info->type_count; i++) {
        all += (double)info->types[i].bytes;
    }
    printf("\n%-10s %9s %14s %12s %7s %12s\n", "type", "matrices", "weights", "size", "share",
           "bits/weight");
    for (int i = 0; i < info->type_count; i++) {
        const mixt_type_use *use = &info->types[i];
        char weights[32], size[24];
        format_count(use->parameters, weights);
        format_bytes((double)use->bytes, size);
        printf("%-10s %9d %14s %12s %6.1f%% %12.2f\n", use->type, use->tensors, weights, size,
               100 * (double)use->bytes / all, 8 * (double)use->bytes / (double)use->parameters);
    }
}

static void print_text(const mixt_fidelity *fidelity, const mixt_model_info *info,
                       const convert_report_request *request)
{
    char tokens[32];
    format_count(fidelity->tokens, tokens);
    printf("perplexity    %.4f, of the source %.4f, over %s%s tokens%s\n", perplexity(fidelity, 1),
           perplexity(fidelity, 0), tokens, request->heldout ? " held-out" : "",
           request->fitted ? " that it was fitted to (--heldout keeps some apart)" : "");
    printf("predictions   KL %.6f nats on average, %.6f at 99%% of the tokens; the same likeliest "
           "token at %.2f%%\n",
           fidelity->kl, fidelity->kl_99, 100 * fidelity->same_top);
    if (fidelity->layers > 0) {
        printf("\nrouting, of a token's experts beside the source's\n%5s %10s %14s %14s %14s\n",
               "layer", "same sets", "same first", "weight kept", "router KL, bits");
    }
    for (int i = 0; i < fidelity->layers; i++) {
        const mixt_fidelity_layer *layer = &fidelity->layer[i];
        printf("%5d %9.2f%% %13.2f%% %13.2f%% %15.6f\n", layer->layer, 100 * layer->sets,
               100 * layer->first, 100 * layer->kept, layer->kl);
    }
    print_types(info);
}

/* ", "name": value" */
static void put(const char *name, double value)
{
    printf(", \"%s\": ", name);
    print_json_measure(stdout, value);
}

static void print_json(const mixt_fidelity *fidelity, const mixt_model_info *info,
                       const convert_report_request *request)
{
    fputs("{\"written\": ", stdout);
    print_json_text(stdout, request->written);
    printf(", \"heldout\": %s, \"fitted\": %s", request->heldout ? "true" : "false",
           request->fitted ? "true" : "false");
    printf(", \"tokens\": %llu", (unsigned long long)fidelity->tokens);
    put("perplexity", perplexity(fidelity, 1));
    put("source_perplexity", perplexity(fidelity, 0));
    put("kl", fidelity->kl);
    put("kl_99", fidelity->kl_99);
    put("same_top", fidelity->same_top);
    fputs(", \"layers\": [", stdout);
    for (int i = 0; i < fidelity->layers; i++) {
        const mixt_fidelity_layer *layer = &fidelity->layer[i];
        printf("%s{\"layer\": %d", i > 0 ? ", " : "", layer->layer);
        put("sets", layer->sets);
        put("first", layer->first);
        put("kept", layer->kept);
        put("router_kl", layer->kl);
        fputc('}', stdout);
    }
    fputs("], \"types\": [", stdout);
    for (int i = 0; i < info->type_count; i++) {
        const mixt_type_use *use = &info->types[i];
        printf("%s{\"type\": \"%s\", \"matrices\": %d, \"weights\": %llu, \"bytes\": %llu}",
               i > 0 ? ", " : "", use->type, use->tensors, (unsigned long long)use->parameters,
               (unsigned long long)use->bytes);
    }
    fputs("]}\n", stdout);
}

mixt_status convert_report(const convert_report_request *request, const cli_resources *resources,
                           mixt_error *error)
{
    mixt_model *written = NULL;
    TRY(mixt_model_open(request->written, &written, error));
    progress_line progress;
    progress_begin(&progress, "compare");
    const mixt_fidelity_options options = {.window = request->window,
                                           .max_tokens = (uint64_t)request->max_tokens,
                                           .heldout = request->heldout,
                                           .progress = progress_callback,
                                           .user = &progress};
    mixt_fidelity fidelity;
    interrupt_begin();
    mixt_status status = mixt_fidelity_measure(resources->context, resources->model, written,
                                               resources->data, &options, &fidelity, error);
    interrupt_end();
    progress_end(&progress);
    if (status == MIXT_OK) {
        mixt_model_info info;
        mixt_model_describe(written, &info);
        if (request->json) {
            print_json(&fidelity, &info, request);
        } else {
            print_text(&fidelity, &info, request);
        }
        fflush(stdout);
        mixt_fidelity_free(&fidelity);
    }
    mixt_model_free(written);
    return status;
}
