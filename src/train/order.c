#include "train/order.h"

#include "core/error.h"
#include "core/random.h"

mixt_status mixt_order_init(mixt_order *order, const mixt_data *data, uint64_t seed, int window,
                            mixt_error *error)
{
    const mixt_data_split *split = mixt_data_split_of(data, false);
    *order = (mixt_order){.split = split,
                          .separator = mixt_data_separator(data),
                          .seed = seed,
                          .window = window,
                          .windows = split->token_count / (uint64_t)window};
    if (order->windows == 0) {
        return mixt_fail(error, MIXT_ERROR_ARGUMENT,
                         "training data: %zu tokens are less than one window of %d",
                         split->token_count, window);
    }
    return MIXT_OK;
}

uint64_t mixt_order_window(const mixt_order *order, uint64_t epoch, uint64_t index)
{
    mixt_random_key key = {order->seed, MIXT_RANDOM_SHUFFLE, (uint32_t)epoch};
    return mixt_random_permute(&key, index, order->windows);
}

int64_t mixt_order_fill(const mixt_order *order, uint64_t number, int64_t row, mixt_batch *batch)
{
    const mixt_data_split *split = order->split;
    uint64_t start = number * (uint64_t)order->window;
    const mixt_data_document *document = &split->documents[mixt_data_document_at(split, start)];
    int64_t first = row, counted = 0;
    mixt_data_copy(split, start, (size_t)order->window, batch->tokens + row);
    for (int64_t i = 0; i < order->window; i++) {
        uint64_t at = start + (uint64_t)i;
        while (at >= document->start + document->length) {
            document++;
            first = row + i;
        }
        bool inside = at + 1 < document->start + document->length;
        int32_t target = inside ? mixt_data_token(split, at + 1) : (int32_t)order->separator;
        batch->positions[row + i] = (int32_t)(row + i - first);
        batch->first[row + i] = (int32_t)first;
        batch->last[row + i] = (int32_t)(row + i);
        batch->targets[row + i] = target;
        counted += target >= 0;
    }
    return counted;
}
