/* The parameters of a model and how they lie in files. */
#ifndef MIXT_MODEL_PARAMETERS_H
#define MIXT_MODEL_PARAMETERS_H

#include "model/model.h"

/* Fills model->parameters, parameter_count and weight_count from options and family; needs no
 * weights. `place` begins error lines. */
mixt_status mixt_parameters_create(mixt_model *model, const char *place, mixt_error *error);

/* Appends a parameter without a name to the list, which has room; NULL where its size does not fit.
 */
mixt_parameter *mixt_parameters_append(mixt_model *model, mixt_slot slot, int layer, int rank,
                                       const int64_t *size);

/* Leaves these of the experts, places anew what is left of the parameters. */
void mixt_parameters_share(mixt_model *model, mixt_expert_share share);

/* A tensor's name with the layer in decimal for its "{L}". */
void mixt_put_layer(const char *pattern, int layer, char *to, size_t size);

bool mixt_slot_is_expert(mixt_slot slot); /* [E, ..]: a matrix or bias for each expert */
bool mixt_slot_is_bias(mixt_slot slot);   /* begins at 0, never decays; sinks too */
bool mixt_slot_is_norm(mixt_slot slot);   /* begins at 1 */
/* A or B of an expert matrix (model/adapters.h): of the model, and not of its family's files. */
bool mixt_slot_is_adapter(mixt_slot slot);
/* [E, ..] both: what a rank has of its own experts alone, where they are spread. */
bool mixt_slot_is_spread(mixt_slot slot);
/* Values of a parameter in the whole model, of which a spread one has a share. */
size_t mixt_parameter_whole(const mixt_model *model, const mixt_parameter *parameter);
/* The part of a model that a parameter is of (mixt_train_part). */
int64_t mixt_slot_part(mixt_slot slot);
/* Lets those of these parts learn that learn at all, and no others. */
void mixt_parameters_train(mixt_model *model, int64_t parts);
/* What products read as rows of a matrix; the others are held and written as fp32, as llama.cpp
 * wants. */
bool mixt_parameter_is_matrix(const mixt_parameter *parameter);

/* A part of a parameter that lies in one tensor of a file: value (i0, i1, i2, i3) of `count`, the
 * last running fastest, from value `offset` of the parameter on, is element
 * from + sum i * stride of the tensor. Ones in shapes mean nothing: [1, d] may be [d] in a file. */
typedef struct mixt_layout_piece {
    char name[128];
    bool mxfp4; /* in NAME_blocks and NAME_scales; shape is of the values, the last a row's */
    int rank;
    int64_t shape[4]; /* of the tensor, slowest first (the other way round than GGUF says it) */
    size_t offset;
    int64_t from;
    int64_t count[4];
    int64_t stride[4];
} mixt_layout_piece;

int mixt_layout_piece_count(const mixt_model *model, const mixt_parameter *parameter,
                            const mixt_tensor_row *row, mixt_form form);
void mixt_layout_piece_get(const mixt_model *model, const mixt_parameter *parameter,
                           const mixt_tensor_row *row, mixt_form form, int index,
                           mixt_layout_piece *piece);
/* true where the piece is the whole tensor in its order */
bool mixt_layout_piece_is_plain(const mixt_layout_piece *piece);
/* true where each row of the piece is a whole row of the tensor */
bool mixt_layout_keeps_rows(const mixt_layout_piece *piece);
/* Element of the tensor where a row of the piece, a run along its last axis, begins. */
int64_t mixt_layout_row_start(const mixt_layout_piece *piece, int64_t row);
/* How many values a piece has, and the whole tensor. */
size_t mixt_layout_piece_values(const mixt_layout_piece *piece);
size_t mixt_layout_tensor_values(const mixt_layout_piece *piece);
/* Puts a piece's values where they belong among the tensor's; and takes them out. */
void mixt_layout_scatter(const mixt_layout_piece *piece, const float *values, float *tensor);
void mixt_layout_gather(const mixt_layout_piece *piece, const float *tensor, float *values);

/* The tensors of a Hugging Face folder by name, and the parts of parameters that lie in each: those
 * of tensor i are parts [first[i], first[i + 1]). */
typedef struct mixt_folder_part {
    int parameter;
    mixt_layout_piece piece;
} mixt_folder_part;

typedef struct mixt_folder_tensors {
    mixt_folder_part *parts;
    size_t part_count;
    size_t *first; /* [count + 1] */
    size_t count;
} mixt_folder_tensors;

/* Refused, by name, where the family has none for a parameter. Free the list in any case. */
mixt_status mixt_folder_tensors_list(const mixt_model *model, mixt_folder_tensors *list,
                                     mixt_error *error);
void mixt_folder_tensors_free(mixt_folder_tensors *list);

#endif
