/*
 * tokenizer_normalizer.c - the normalizer: rewrites a text before it is cut into pieces. In: a section
 * and the steps of the tokenizer. Out: a section that knows where each of its bytes came from.
 */
#include "tokenizer_parts.h"

phi3_status phi3_normalize(const phi3_tokenizer *tokenizer, phi3_section *section,
                           phi3_aligned texts[2], phi3_error *error)
{
    size_t limit = (section->size + 1) * PHI3_MAX_TEXT_GROWTH;
    for (size_t i = 0; i < tokenizer->normalizer_steps && section->size > 0; i++) {
        const phi3_normalizer_step *step = &tokenizer->normalizer[i];
        phi3_aligned *out = &texts[i % 2]; /* the other one holds *section */
        phi3_range whole = {0, (uint32_t)section->size};
        out->size = 0;
        out->limit = limit < UINT32_MAX ? limit : UINT32_MAX - 1;
        bool enough_memory;
        if (step->pattern == NULL)
            enough_memory = phi3_aligned_append(out, step->content, step->content_size,
                                                phi3_section_origin(section, 0, 1)) &&
                            phi3_aligned_copy(out, section, 0, section->size);
        else
            enough_memory =
                phi3_aligned_replace(out, section, whole, step->pattern, step->pattern_size,
                                     step->content, step->content_size);
        if (!enough_memory)
            return phi3_fail_memory(error, "a text");
        *section = phi3_aligned_section(out);
    }
    return PHI3_OK;
}

phi3_status phi3_normalizer_add(phi3_tokenizer *tokenizer, const char *pattern, const char *content,
                                phi3_error *error)
{
    size_t count = tokenizer->normalizer_steps;
    phi3_normalizer_step *steps = realloc(tokenizer->normalizer, (count + 1) * sizeof *steps);
    if (steps == NULL)
        return phi3_fail_memory(error, "a normalizer");
    tokenizer->normalizer = steps;
    phi3_normalizer_step step = {.content_size = strlen(content)};
    step.content = phi3_vocabulary_keep(&tokenizer->vocabulary, content, step.content_size);
    if (pattern != NULL) {
        step.pattern_size = strlen(pattern);
        step.pattern = phi3_vocabulary_keep(&tokenizer->vocabulary, pattern, step.pattern_size);
    }
    if (step.content == NULL || (pattern != NULL && step.pattern == NULL))
        return phi3_fail_memory(error, "a normalizer");
    steps[count] = step;
    tokenizer->normalizer_steps = count + 1;
    return PHI3_OK;
}
