/*
 * placement.h - which backend gets which part of a model.
 *
 * A model is placed in units: the embedding, every layer, and the head (the last norm and lm_head).
 * Neighbouring units on one backend are a segment, and most models are a single one.
 */
#ifndef PHI3_INTERNAL_PLACEMENT_H
#define PHI3_INTERNAL_PLACEMENT_H

#include "kernels/backend.h"

/* A run of layers on one backend. The first segment of a model has the embedding as well, the last
 * one the head; these two may have no layers. */
typedef struct phi3_segment {
    const phi3_backend *backend;
    size_t first_layer, n_layers;
    phi3_kv_layout kv; /* of its layers */
} phi3_segment;

enum { PHI3_MAX_DEVICES = PHI3_MAX_CUDA_DEVICES + 2 }; /* with the host's */

/* How much of a device's memory a model may take. */
typedef struct phi3_memory_limit {
    const phi3_backend *backend;
    size_t bytes;
} phi3_memory_limit;

/* What the options of a load say about devices. */
typedef struct phi3_device_choice {
    const phi3_backend *devices[PHI3_MAX_DEVICES]; /* to be filled in this order ... */
    size_t n_devices;
    bool spills;     /* ... and what does not fit goes to the CPU; else it is an error */
    const char *map; /* "module=device,...": every unit has its place; NULL: it has not. Borrowed */
    phi3_memory_limit limits[PHI3_MAX_DEVICES];
    size_t n_limits;
} phi3_device_choice;

/* The backend of a device by its name of `size` bytes. */
phi3_status phi3_device_named(const char *name, size_t size, const phi3_backend **backend,
                              phi3_error *error);

/* Reads `device` and `max_memory` of phi3_model_options; fails where a device is not there. */
phi3_status phi3_device_choice_read(const char *device, const char *max_memory,
                                    phi3_device_choice *choice, phi3_error *error);

/* The limit of a backend; SIZE_MAX: it has none. */
size_t phi3_memory_limit_of(const phi3_device_choice *choice, const phi3_backend *backend);

/* Fills the segments of a model whose config, weights, compute and kv are set, and whose weights have
 * not been read yet. PHI3_ERROR_OUT_OF_MEMORY: a device would have to hold more than it may. */
struct phi3_model;
phi3_status phi3_model_place(struct phi3_model *model, const phi3_device_choice *choice,
                             phi3_error *error);

/* A backend for each unit, place [n_units], from a map by the names of transformers' modules
 * (device_map.c). */
phi3_status phi3_place_by_map(const char *map, const phi3_backend **place, size_t n_units,
                              phi3_error *error);

/* Cuts "key=value,key=value" into its next pair, without the white space around key and value; moves
 * *text behind it. False: there is none. Without a "=" the value is NULL. */
typedef struct phi3_pair {
    const char *key, *value; /* [key_size], [value_size] borrowed from the text */
    size_t key_size, value_size;
} phi3_pair;

bool phi3_next_pair(const char **text, phi3_pair *pair);

#endif
