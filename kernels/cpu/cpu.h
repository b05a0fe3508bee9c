/* cpu.h - the ops of the CPU backend, as declared in kernels/backend.h. */
#ifndef PHI3_CPU_H
#define PHI3_CPU_H

#include "kernels/backend.h"

/* matrix.c */
phi3_status phi3_cpu_matrix_create(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                                   const void *packed, phi3_matrix **matrix, phi3_error *error);
size_t phi3_cpu_matrix_packed_size(const phi3_tensor *parts, size_t n_parts, phi3_compute compute);
bool phi3_cpu_matrix_pack(const phi3_tensor *parts, size_t n_parts, phi3_compute compute,
                          int n_threads, void *packed);
void phi3_cpu_matrix_free(phi3_matrix *matrix);
size_t phi3_cpu_matrix_scratch(const phi3_matrix *matrix, size_t n_rows, int n_threads);
phi3_status phi3_cpu_embed(const phi3_exec *exec, const phi3_matrix *table, const int32_t *ids,
                           size_t n_rows, float *out);

/* linear.c */
phi3_status phi3_cpu_linear(const phi3_exec *exec, const phi3_matrix *weight, const float *x,
                            size_t n_rows, float *y);

/* rows.c */
phi3_status phi3_cpu_add_rms_norm(const phi3_exec *exec, float *x, const float *delta,
                                  const float *weight, float epsilon, size_t n_rows,
                                  size_t n_columns, float *out);
phi3_status phi3_cpu_swiglu(const phi3_exec *exec, const float *gate_up, size_t n_rows,
                            size_t n_columns, float *out);
phi3_status phi3_cpu_gather_rows(const phi3_exec *exec, const float *x, const size_t *rows,
                                 size_t n_rows, size_t n_columns, float *out);

/* attention.c */
size_t phi3_cpu_attention_scratch(const phi3_attention *attention, size_t n_rows, int n_threads);
phi3_status phi3_cpu_rope_append(const phi3_exec *exec, const phi3_attention *attention,
                                 const float *cosine, const float *sine, float *qkv);
phi3_status phi3_cpu_attention(const phi3_exec *exec, const phi3_attention *attention,
                               const float *qkv, float *out);

/* top_k.c */
size_t phi3_cpu_top_k_scratch(size_t n_rows, size_t n_columns, size_t k);
phi3_status phi3_cpu_top_k(const phi3_exec *exec, const float *logits, size_t n_rows,
                           size_t n_columns, size_t k, float *values, int32_t *ids);

#endif
