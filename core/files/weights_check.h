/* weights_check.h - are the numbers in a stored tensor finite? */
#ifndef PHI3_INTERNAL_WEIGHTS_CHECK_H
#define PHI3_INTERNAL_WEIGHTS_CHECK_H

#include "kernels/backend.h"
#include "phi3.h"

/* Refuses a norm's weights that are not floats or hold NaN or infinity. `path` and `name` are for
 * messages. */
phi3_status phi3_check_norm(const char *path, const char *name, const phi3_tensor *norm,
                            phi3_error *error);

/* Refuses a quantised tensor with a block whose scale or minimum is NaN or infinite: a pass over it
 * on n_threads. The elements of float tensors are not looked at. */
phi3_status phi3_check_scales(const char *path, const char *name, const phi3_tensor *tensor,
                              int n_threads, phi3_error *error);

/* Says why row `row` of a tensor cannot be rounded to a dtype; see phi3_convert_rows. */
phi3_status phi3_fail_row(const char *path, const char *name, const phi3_tensor *tensor, size_t row,
                          phi3_dtype dtype, phi3_error *error);

#endif
