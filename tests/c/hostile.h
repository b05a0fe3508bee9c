/* hostile.h - what every hostile file must meet with: an error that names the file and the fault. */
#ifndef PHI3_TEST_HOSTILE_H
#define PHI3_TEST_HOSTILE_H

#include "model_files.h"

#include "core/files/weights.h"

/* Opens a model and looks at all of it, as a load does. */
static inline phi3_status open_all(const char *path, phi3_loaded_config *config,
                                   phi3_weights *weights, phi3_error *error)
{
    phi3_status status = phi3_weights_open(path, config, weights, error);
    if (status == PHI3_OK)
        status = phi3_weights_check(&weights->embedding, 1, error);
    if (status == PHI3_OK)
        status = phi3_weights_check(&weights->lm_head, 1, error);
    for (size_t i = 0; status == PHI3_OK && i < weights->n_layers; i++) {
        phi3_layer_tensors *layer = &weights->layers[i];
        phi3_matrix_parts *parts[] = {&layer->qkv, &layer->output, &layer->gate_up, &layer->down};
        for (size_t j = 0; status == PHI3_OK && j < 4; j++)
            status = phi3_weights_check(parts[j], 1, error);
        for (size_t j = 0; status == PHI3_OK && j < 4; j++)
            status = phi3_weights_prepare(parts[j], 1, error);
    }
    if (status != PHI3_OK && weights->store) {
        phi3_weights_close(weights);
        phi3_config_free(config);
    }
    return status;
}

/* Opens a model that must be refused: the message starts with the path of a file of the test's
 * directory and contains `fault`. */
static inline void assert_refused(const char *what, const char *path, const char *fault)
{
    phi3_loaded_config config;
    phi3_weights weights;
    phi3_error error = {0};
    phi3_status status = open_all(path, &config, &weights, &error);
    if (status == PHI3_OK)
        fail_msg("%s: was accepted", what);
    if (status == PHI3_ERROR_INTERNAL || error.code != status)
        fail_msg("%s: status %d, code %d", what, (int)status, (int)error.code);
    if (strncmp(error.message, test_directory, strlen(test_directory)) != 0)
        fail_msg("%s: the file is not named in: %s", what, error.message);
    if (!strstr(error.message, fault))
        fail_msg("%s: '%s' is not in: %s", what, fault, error.message);
    assert_null(weights.store);
    assert_null(weights.layers);
    assert_null(config.short_factor);
}

/* Opens a file that may be anything: accepted or refused, but named and without a crash. */
static inline void assert_survived(const char *path)
{
    phi3_loaded_config config;
    phi3_weights weights;
    phi3_error error = {0};
    phi3_status status = open_all(path, &config, &weights, &error);
    if (status != PHI3_OK && strncmp(error.message, path, strlen(path)) != 0)
        fail_msg("the file is not named in: %s", error.message);
    phi3_weights_close(&weights);
    phi3_config_free(&config);
}

/* A repeatable stream of numbers (Marsaglia's xorshift64). */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
