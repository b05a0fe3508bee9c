/*
 * placement.c - which parts of a model go to which device.
 *
 * In: a model whose tensors are known, and what the options allow. Out: its segments.
 *
 * A device is given what every token reads in full, from the end: the head, then the last layers. The
 * embedding follows only when everything fits, since a token reads one row of it. So there is at most
 * one border between the CPU and a device, and what crosses it is a row of hidden state per token.
 */
#include "placement.h"

#include <stdlib.h>

#include "base/error.h"
#include "device_memory.h"
#include "model.h"

enum {
    /* Tokens whose keys and values a layer is given room for, when a device is filled. */
    PLANNED_TOKENS = 4096,
    /* What stays free of a device, for scratch memory and others: 1/16 of it, at most a GiB. */
    MARGIN_PART = 16
};
static const size_t MAX_MARGIN = (size_t)1 << 30;

/* ---- What units take ----------------------------------------------------------------------------- */

static size_t n_units_of(const phi3_model *model)
{
    return model->config.config.num_hidden_layers + 2;
}

/* Packed weights take the place of the stored ones, whose pages go back to the system. */
static size_t matrix_bytes(const phi3_backend *backend, const phi3_matrix_parts *parts,
                           phi3_compute compute)
{
    if (backend->matrix_bytes)
        return backend->matrix_bytes(parts->part, parts->count, compute);
    size_t bytes = backend->matrix_packed_size(parts->part, parts->count, compute);
    for (size_t i = 0; bytes == 0 && i < parts->count; i++)
        bytes += parts->part[i].n_rows *
                 phi3_dtype_row_bytes(parts->part[i].dtype, parts->part[i].n_columns);
    return bytes;
}

static size_t layer_bytes(const phi3_model *model, const phi3_backend *backend, size_t index)
{
    const phi3_layer_tensors *layer = &model->weights.layers[index];
    phi3_compute compute = model->compute;
    return matrix_bytes(backend, &layer->qkv, compute) +
           matrix_bytes(backend, &layer->output, compute) +
           matrix_bytes(backend, &layer->gate_up, compute) +
           matrix_bytes(backend, &layer->down, compute) +
           2 * model->config.config.hidden_size * sizeof(float);
}

/* Weights of a unit on a backend. A head whose matrix is the embedding counts in full. */
static size_t unit_bytes(const phi3_model *model, const phi3_backend *backend, size_t unit)
{
    const phi3_weights *weights = &model->weights;
    bool tied = weights->lm_head.count == 0;
    if (unit == 0)
        return matrix_bytes(backend, &weights->embedding, PHI3_COMPUTE_FLOAT32);
    if (unit <= weights->n_layers)
        return layer_bytes(model, backend, unit - 1);
    return matrix_bytes(backend, tied ? &weights->embedding : &weights->lm_head, model->compute) +
           model->config.config.hidden_size * sizeof(float);
}

/* Bytes of a layer's keys and values of so many tokens. */
static size_t kv_bytes(const phi3_model *model)
{
    size_t limit = model->config.config.max_position_embeddings;
    size_t n_tokens = limit < PLANNED_TOKENS ? limit : PLANNED_TOKENS;
    phi3_kv_layout layer = model->kv;
    layer.n_layers = 1;
    return (n_tokens + PHI3_PAGE_POSITIONS - 1) / PHI3_PAGE_POSITIONS * phi3_kv_page_bytes(&layer);
}

/* What a backend must hold: activations for each of its segments, and the weights of its units; an
 * embedding that is the head, too, once. */
static size_t needed_on(const phi3_model *model, const phi3_backend *backend,
                        const phi3_backend *const *place)
{
    size_t n_units = n_units_of(model), bytes = 0;
    bool shares = model->weights.lm_head.count == 0 && place[n_units - 1] == backend;
    for (size_t unit = 0; unit < n_units; unit++) {
        if (place[unit] != backend)
            continue;
        bytes += unit == 0 && shares ? 0 : unit_bytes(model, backend, unit);
        bytes += unit == 0 || place[unit - 1] != backend ? phi3_workspace_bytes(model) : 0;
    }
    return bytes;
}

/* ---- Filling devices ------------------------------------------------------------------------------ */

/* Bytes that a model may plan to take of a device. */
static size_t room_on(const phi3_device_choice *choice, const phi3_backend *backend)
{
    size_t limit = phi3_memory_limit_of(choice, backend), available, total;
    if (!backend->memory || !backend->memory(&available, &total))
        return limit;
    size_t margin = total / MARGIN_PART < MAX_MARGIN ? total / MARGIN_PART : MAX_MARGIN;
    size_t room = available > margin ? available - margin : 0;
    return room < limit ? room : limit;
}

static void place_all(const phi3_backend **place, size_t n_units, const phi3_backend *backend)
{
    for (size_t unit = 0; unit < n_units; unit++)
        place[unit] = backend;
}

/* Places units from `end` backwards on a backend, down to unit 1, and returns how far it got: the
 * units from there on have their places. */
static size_t fill(const phi3_model *model, const phi3_backend *backend, size_t room, size_t end,
                   const phi3_backend **place)
{
    size_t used = phi3_workspace_bytes(model);
    for (; end > 1; end--) {
        size_t unit = end - 1;
        bool is_layer = unit <= model->weights.n_layers;
        used += unit_bytes(model, backend, unit) + (is_layer ? kv_bytes(model) : 0);
        if (used > room)
            break;
        place[unit] = backend;
    }
    return end;
}

static void fill_devices(const phi3_model *model, const phi3_device_choice *choice,
                         const phi3_backend **place)
{
    size_t n_units = n_units_of(model), end = n_units;
    const phi3_backend *first = choice->devices[0];
    place_all(place, n_units, first);
    size_t whole = needed_on(model, first, place) + model->weights.n_layers * kv_bytes(model);
    if (whole <= room_on(choice, first))
        return;
    place_all(place, n_units, &phi3_backend_cpu);
    for (size_t i = 0; i < choice->n_devices; i++)
        end = fill(model, choice->devices[i], room_on(choice, choice->devices[i]), end, place);
}

/* ---- Checks ---------------------------------------------------------------------------------------- */

static phi3_status check_backend(const phi3_model *model, const phi3_device_choice *choice,
                                 const phi3_backend *backend, const phi3_backend *const *place,
                                 phi3_error *error)
{
    size_t needed = needed_on(model, backend, place), available, total;
    size_t limit = phi3_memory_limit_of(choice, backend);
    if (needed > limit)
        return phi3_fail(error, PHI3_ERROR_OUT_OF_MEMORY,
                         "the model takes %s on %s, where max_memory allows %s",
                         phi3_show_size(needed).text, backend->name, phi3_show_size(limit).text);
    if (backend->memory && backend->memory(&available, &total) && needed > available)
        return phi3_fail(error, PHI3_ERROR_OUT_OF_MEMORY,
                         "the model takes %s on %s, where %s of %s are free; "
                         "device_map \"auto\" or a max_memory leaves a part of it on the CPU",
                         phi3_show_size(needed).text, backend->name, phi3_show_size(available).text,
                         phi3_show_size(total).text);
    return PHI3_OK;
}

/* Checks each backend where it occurs first. */
static phi3_status check_places(const phi3_model *model, const phi3_device_choice *choice,
                                const phi3_backend *const *place, phi3_error *error)
{
    for (size_t unit = 0; unit < n_units_of(model); unit++) {
        size_t first = 0;
        while (place[first] != place[unit])
            first++;
        if (first == unit)
            PHI3_TRY(check_backend(model, choice, place[unit], place, error));
    }
    return PHI3_OK;
}

static phi3_status choose_places(const phi3_model *model, const phi3_device_choice *choice,
                                 const phi3_backend **place, phi3_error *error)
{
    size_t n_units = n_units_of(model);
    if (choice->map)
        PHI3_TRY(phi3_place_by_map(choice->map, place, n_units, error));
    else if (choice->spills)
        fill_devices(model, choice, place);
    else
        place_all(place, n_units, choice->devices[0]);
    return check_places(model, choice, place, error);
}

/* ---- Segments --------------------------------------------------------------------------------- */

/* Joins neighbours that are on the same backend: place [n_layers + 2]. */
static void join_segments(phi3_model *model, const phi3_backend *const *place)
{
    size_t n_layers = model->weights.n_layers;
    phi3_segment *segment = model->segments;
    *segment = (phi3_segment){.backend = place[0]};
    for (size_t unit = 1; unit < n_layers + 2; unit++) {
        size_t layer = unit - 1;
        if (place[unit] != segment->backend)
            *++segment = (phi3_segment){.backend = place[unit], .first_layer = layer};
        segment->n_layers += layer < n_layers ? 1 : 0;
    }
    model->n_segments = (size_t)(segment - model->segments) + 1;
    for (size_t i = 0; i < model->n_segments; i++) {
        model->segments[i].kv = model->kv;
        model->segments[i].kv.n_layers = model->segments[i].n_layers;
    }
}

static void log_segments(const phi3_model *model)
{
    for (size_t i = 0; i < model->n_segments && model->n_segments > 1; i++) {
        const phi3_segment *segment = &model->segments[i];
        phi3_log(PHI3_LOG_INFO, "%s: %s%zu layers%s", segment->backend->name,
                 i == 0 ? "the embedding and " : "", segment->n_layers,
                 i + 1 == model->n_segments ? " and the head" : "");
    }
}

phi3_status phi3_model_place(phi3_model *model, const phi3_device_choice *choice, phi3_error *error)
{
    size_t n_units = n_units_of(model);
    const phi3_backend **place = calloc(n_units, sizeof(*place));
    model->segments = calloc(n_units, sizeof *model->segments);
    phi3_status status = PHI3_OK;
    if (!place || !model->segments)
        status = phi3_fail_memory(error, "the places of layers");
    else
        status = choose_places(model, choice, place, error);
    if (status == PHI3_OK) {
        join_segments(model, place);
        log_segments(model);
    }
    free(place);
    return status;
}
