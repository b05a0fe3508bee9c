/*
 * tiny_fixture.h - what the tests of the loop share: a tiny model on the reference backend, or on
 * $PHI3_TEST_DEVICE, ids that look like a text's, and an error to write to. TINY_SEED, defined before,
 * chooses the ids.
 */
#ifndef PHI3_TEST_TINY_FIXTURE_H
#define PHI3_TEST_TINY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/model.h"
#include "tiny_model.h"

static phi3_model *model;
static phi3_error error;
static int32_t ids[TINY_POSITIONS];

static int load_model(void **state)
{
    (void)state;
    const char *device = getenv("PHI3_TEST_DEVICE");
    model = tiny_model_load(tiny_config, device != NULL ? device : "reference");
    tiny_ids(TINY_SEED, ids, TINY_POSITIONS);
    return model == NULL;
}

static int free_model(void **state)
{
    (void)state;
    phi3_model_free(model);
    return 0;
}

static inline phi3_cache *new_cache(void)
{
    phi3_cache *cache;
    assert_int_equal(phi3_cache_create(model, &cache, &error), PHI3_OK);
    return cache;
}

/* So that the next forward asks for as much memory as the first. */
static inline void forget_idle_pages(phi3_model *own)
{
    phi3_page_pool_free(own, own->pages);
    assert_int_equal(phi3_page_pool_create(&own->pages, &error), PHI3_OK);
}

#endif
