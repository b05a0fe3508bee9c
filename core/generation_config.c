/*
 * generation_config.c - defaults, checks and limits of the generation arguments.
 *
 * In: a phi3_generation_config as a caller filled it. Out: an error where transformers would raise
 * one, or the numbers that the loop works with.
 */
#include "generation_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

phi3_generation_config phi3_generation_default_config(void)
{
    return (phi3_generation_config){
        .max_new_tokens = -1,
        .max_length = -1,
        .min_new_tokens = -1,
        .min_length = 0,
        .do_sample = false,
        .repetition_penalty = 1.0,
        .temperature = 1.0,
        .top_k = 50,
        .top_p = 1.0,
        .min_p = 0.0,
        .pad_token_id = -1,
        .num_return_sequences = 1,
    };
}

/* ---- Checks ----------------------------------------------------------------------------------- */

/* A number as Python prints it: the shortest text that reads back the same, and never like an int. */
typedef struct number_text {
    char text[40];
} number_text;

static number_text text_of(double value)
{
    number_text number;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(number.text, sizeof number.text - 2, "%.*g", digits, value);
        if (strtod(number.text, NULL) == value)
            break;
    }
    if (isfinite(value) && strpbrk(number.text, ".e") == NULL)
        strcat(number.text, ".0");
    return number;
}

static phi3_status check_sampling(const phi3_generation_config *config, phi3_error *error)
{
    if (!(config->temperature > 0))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "`temperature` has to be a strictly positive float, but is %s.%s",
                         text_of(config->temperature).text,
                         config->temperature == 0 ? " For greedy search set `do_sample=False`."
                                                  : "");
    if (config->top_k < 0)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "`top_k` has to be a strictly positive integer, but is %lld",
                         (long long)config->top_k);
    if (!(config->top_p >= 0))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "`top_p` has to be a float in [0, 1], but is %s",
                         text_of(config->top_p).text);
    if (!(config->min_p >= 0 && config->min_p <= 1))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "`min_p` has to be a float in [0, 1], but is %s",
                         text_of(config->min_p).text);
    return PHI3_OK;
}

phi3_status phi3_generation_config_check(const phi3_generation_config *config, phi3_error *error)
{
    if (config->max_new_tokens != -1 && config->max_new_tokens <= 0)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "`max_new_tokens` must be greater than 0, but is %lld",
                         (long long)config->max_new_tokens);
    if (config->num_return_sequences == 0)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "`num_return_sequences` must be greater than 0, but is 0");
    if (config->num_return_sequences > 1 && !config->do_sample)
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "Greedy search gives one result: set do_sample=True or leave "
                         "`num_return_sequences` at 1 (got %zu)",
                         config->num_return_sequences);
    if (!(config->repetition_penalty > 0))
        return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT,
                         "`repetition_penalty` has to be a strictly positive float, but is %s",
                         text_of(config->repetition_penalty).text);
    for (size_t i = 0; i < config->n_stop_strings; i++) {
        if (config->stop_strings[i] == NULL || config->stop_strings[i][0] == '\0')
            return phi3_fail(error, PHI3_ERROR_INVALID_ARGUMENT, "a stop string is empty");
    }
    return config->do_sample ? check_sampling(config, error) : PHI3_OK;
}

/* ---- Limits ----------------------------------------------------------------------------------- */

enum { DEFAULT_NEW_TOKENS = 20 };

/* The length at which every row ends. A batch counts as transformers counts it, padded on the left:
 * from the longest prompt. */
static size_t total_limit(const phi3_generation_config *config, size_t prompt, size_t n_positions)
{
    size_t limit;
    if (config->max_new_tokens > 0) {
        if (config->max_length >= 0)
            phi3_log(PHI3_LOG_WARNING,
                     "Both `max_new_tokens` (=%lld) and `max_length`(=%lld) seem to have been set. "
                     "`max_new_tokens` will take precedence.",
                     (long long)config->max_new_tokens, (long long)config->max_length);
        if (phi3_add_overflows(prompt, (size_t)config->max_new_tokens, &limit))
            limit = SIZE_MAX;
    } else if (config->max_length >= 0) {
        limit = (size_t)config->max_length;
    } else {
        limit = prompt + DEFAULT_NEW_TOKENS;
        phi3_log(PHI3_LOG_WARNING,
                 "Using the default of %d new tokens. We recommend setting `max_new_tokens` to "
                 "control the maximum length of the generation.",
                 DEFAULT_NEW_TOKENS);
        return limit < n_positions ? limit : n_positions;
    }
    if (limit > n_positions && prompt < n_positions)
        phi3_log(PHI3_LOG_WARNING,
                 "The generation will end at %zu tokens, the most that this model can hold "
                 "(max_position_embeddings).",
                 n_positions);
    return limit < n_positions ? limit : n_positions;
}

phi3_status phi3_generation_limits_of(const phi3_generation_config *config, size_t longest_prompt,
                                      size_t n_positions, phi3_generation_limits *limits,
                                      phi3_error *error)
{
    size_t limit = total_limit(config, longest_prompt, n_positions);
    if (longest_prompt >= limit)
        return phi3_fail(
            error, PHI3_ERROR_INVALID_ARGUMENT,
            "Input length of input_ids is %zu, but `max_length` is set to %zu: increase "
            "`max_length` or, better, set `max_new_tokens`",
            longest_prompt, limit);
    limits->max_new = limit - longest_prompt;

    if (config->min_new_tokens >= 0)
        limits->min_new = (size_t)config->min_new_tokens;
    else if (config->min_length > 0 && (size_t)config->min_length > longest_prompt)
        limits->min_new = (size_t)config->min_length - longest_prompt;
    else
        limits->min_new = 0;
    if (limits->min_new > limits->max_new)
        phi3_log(PHI3_LOG_WARNING,
                 "Unfeasible length constraints: the minimum of %zu new tokens is larger than the "
                 "maximum possible (%zu). Generation will stop at the maximum length.",
                 limits->min_new, limits->max_new);
    return PHI3_OK;
}

/* ---- Copies ----------------------------------------------------------------------------------- */

/* Copies the strings and the array of pointers to them into one block. */
static char **copy_strings(const char *const *strings, size_t count)
{
    size_t size = (count + 1) * sizeof(char *);
    for (size_t i = 0; i < count; i++)
        size += strlen(strings[i]) + 1;
    char **copies = malloc(size);
    if (copies == NULL)
        return NULL;
    char *text = (char *)(copies + count + 1);
    for (size_t i = 0; i < count; i++) {
        copies[i] = text;
        text = stpcpy(text, strings[i]) + 1;
    }
    copies[count] = NULL;
    return copies;
}

phi3_status phi3_generation_config_copy(const phi3_generation_config *config,
                                        phi3_generation_config *copy, phi3_error *error)
{
    int32_t *eos_token_ids = malloc((config->n_eos_token_ids + 1) * sizeof *eos_token_ids);
    char **stop_strings = copy_strings(config->stop_strings, config->n_stop_strings);
    if (eos_token_ids == NULL || stop_strings == NULL) {
        free(eos_token_ids);
        free(stop_strings);
        return phi3_fail_memory(error, "generation arguments");
    }
    if (config->n_eos_token_ids > 0)
        memcpy(eos_token_ids, config->eos_token_ids,
               config->n_eos_token_ids * sizeof *eos_token_ids);
    *copy = *config;
    copy->eos_token_ids = eos_token_ids;
    copy->stop_strings = (const char *const *)stop_strings;
    return PHI3_OK;
}

void phi3_generation_config_free(phi3_generation_config *copy)
{
    free((void *)copy->eos_token_ids);
    free((void *)copy->stop_strings);
}
