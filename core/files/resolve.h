/*
 * resolve.h - the places that phi3_resolve looks into.
 *
 * Each look-up gives a path in *path (freed with free), or leaves it NULL and notes where it looked.
 * A place that holds the model but is broken is an error of its own.
 */
#ifndef PHI3_INTERNAL_RESOLVE_H
#define PHI3_INTERNAL_RESOLVE_H

#include "phi3.h"

/* The places tried so far, for the message when all fail: "PLACE; PLACE". */
typedef struct phi3_places {
    char text[560];
} phi3_places;

void phi3_places_add(phi3_places *places, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Formatted text in new memory (freed with free), or NULL when memory runs out. */
char *phi3_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether a name ends with the suffix and has more than that. */
bool phi3_has_suffix(const char *name, const char *suffix);

/* An environment variable; NULL when it is unset or empty. */
const char *phi3_environment(const char *variable);

/* PHI3_ERROR_IO with the path and what errno says. */
phi3_status phi3_fail_unreadable(phi3_error *error, const char *path);

/* What a directory holds. Only files that can be reached count: a dangling link does not. */
typedef struct phi3_directory_contents {
    bool config;      /* config.json */
    bool safetensors; /* any *.safetensors */
    bool index;       /* model.safetensors.index.json */
    size_t ggufs;     /* number of *.gguf */
    char gguf[256];   /* the first of these by name */
} phi3_directory_contents;

phi3_status phi3_directory_read(const char *directory, phi3_directory_contents *contents,
                                phi3_error *error);

/* The path that a directory stands for: its only GGUF file when it has no safetensors, else itself. */
phi3_status phi3_directory_choose(const char *directory, const phi3_directory_contents *contents,
                                  char **path, phi3_error *error);

/* `name` without "ollama://". */
phi3_status phi3_resolve_ollama(const char *name, char **path, phi3_places *places,
                                phi3_error *error);

/* Whether a name can be one of the Hugging Face hub: [ORGANISATION/]NAME, or a GGUF file of it,
 * ORGANISATION/NAME/FILE.gguf. */
bool phi3_hub_accepts(const char *name);

/* The commands that fetch a name that phi3_hub_accepts; `revision` may be NULL. */
void phi3_hub_advise(const char *name, const char *revision, char *advice, size_t size);

/* `name` is one that phi3_hub_accepts; `revision` may be NULL: "main". */
phi3_status phi3_resolve_hub(const char *name, const char *revision, char **path,
                             phi3_places *places, phi3_error *error);

#endif
