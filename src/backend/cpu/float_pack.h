/* Packs panels of fp32 from typed rows. Behind float_rows.h. */

/* ROW_LANES columns of a panel. */
INLINE void pack_group(const mixt_type type, const row_group *group, const mixt_row_range *from,
                       float *panel, int panel_width)
{
    const int per = word_values(type), tile = per * TILE_WORDS;
    const size_t stride = group->matrix->row_bytes;
    int64_t at = 0;
    for (; group->valid == ROW_LANES && at + tile <= from->k; at += tile) {
        vw words[TILE_WORDS];
        int64_t k = from->k_begin + at;
        load_words(group->data + k * (4 / per), stride, TILE_WORDS, words);
        vr factor = type == MIXT_TYPE_F8_E4M3 ? factors_at(group, k) : r_set(1);
        EACH(i, TILE_WORDS)
        {
            vr values[WORD_VALUES_MAX];
            take_apart(type, words[i], factor, values);
            EACH(j, per) r_store(panel + (at + i * per + j) * panel_width, values[j]);
        }
    }
    for (; at < from->k; at += tile) {
        float values[TILE_VALUES_MAX * ROW_LANES];
        int count = from->k - at < tile ? (int)(from->k - at) : tile;
        edge_values(group, from->k_begin + at, count, values);
        for (int i = 0; i < count; i++) {
            r_store(panel + (at + i) * panel_width, r_load(values + i * ROW_LANES));
        }
    }
}

PACK_FUNCTIONS(pack_of_type, pack_group)

static void pack_typed(const mixt_row_range *from, float *panels, int panel_width)
{
    pack_groups(pack_of_type[type_index(from->matrix->type)], from, from->k, panels, panel_width);
}
