/* Packs panels of fp32 from typed rows. Behind float_rows.h. */

/* Floats of a panel from where a tile's values begin to its value i: by lanes, or in rising k. */
static inline void find_places(const mixt_row_range *from, const int values, int panel_width,
                               int64_t places[TILE_VALUES_MAX])
{
    for (int i = 0; i < values; i++) {
        places[i] = (from->by_lanes ? mixt_lane_place(from->k, i) : i) * panel_width;
    }
}

/* ROW_LANES columns of a panel. */
INLINE void pack_group(const mixt_type type, const row_group *group, const mixt_row_range *from,
                       float *panel, int panel_width)
{
    const int per = word_values(type), tile = per * TILE_WORDS;
    const size_t stride = group->matrix->row_bytes;
    const int64_t step = tile / (from->by_lanes ? MIXT_GEMM_LANES : 1) * panel_width;
    int64_t at = 0, places[TILE_VALUES_MAX];
    assert(!from->by_lanes || tile % MIXT_GEMM_LANES == 0);
    find_places(from, tile, panel_width, places);
    for (; group->valid == ROW_LANES && at + tile <= from->k; at += tile) {
        vw words[TILE_WORDS];
        int64_t k = from->k_begin + at;
        load_words(group->data + k * (4 / per), stride, TILE_WORDS, words);
        vr factor = type == MIXT_TYPE_F8_E4M3 ? factors_at(group, k) : r_set(1);
        EACH(i, TILE_WORDS)
        {
            vr values[WORD_VALUES_MAX];
            take_apart(type, words[i], factor, values);
            EACH(j, per) r_store(panel + places[i * per + j], values[j]);
        }
        panel += step;
    }
    for (; at < from->k; at += tile) {
        float values[TILE_VALUES_MAX * ROW_LANES];
        int count = from->k - at < tile ? (int)(from->k - at) : tile;
        edge_values(group, from->k_begin + at, count, values);
        for (int i = 0; i < count; i++) {
            r_store(panel + places[i], r_load(values + i * ROW_LANES));
        }
        panel += step;
    }
}

PACK_FUNCTIONS(pack_of_type, pack_group)

static void pack_typed(const mixt_row_range *from, float *panels, int panel_width)
{
    pack_groups(pack_of_type[type_index(from->matrix->type)], from, from->k, panels, panel_width);
}
