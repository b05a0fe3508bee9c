/*
 * safetensors.c - opens the safetensors files of a model directory and checks all of their headers.
 *
 * In: a directory. Out: one table of tensors over all shards, sorted by name, that points into the
 * mapped files; or an error that names the file, the tensor and the fault.
 */
#include "safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"

enum {
    MAX_HEADER_BYTES = 100000000, /* the limit of the reference implementation */
    MAX_INDEX_BYTES = 100000000,
    MAX_SHARDS = 1024,
    LENGTH_BYTES = 8,
    MAX_DIMENSIONS = 8
};

typedef struct shard {
    phi3_file file;
    cJSON *header; /* names and dtypes below point into it */
} shard;

typedef struct entry {
    const char *name;
    const char *dtype;
    size_t shape[MAX_DIMENSIONS]; /* [n_dimensions] */
    size_t n_dimensions;
    const uint8_t *data;
    size_t shard; /* index */
} entry;

struct phi3_safetensors {
    shard *shards; /* [n_shards] */
    size_t n_shards;
    entry *entries; /* [n_entries], sorted by name */
    size_t n_entries;
};

/* ---- One tensor of a header ---------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t bytes;
} dtypes[] = {
    {"BF16", 2}, {"F16", 2},  {"F32", 4}, {"F64", 8},     {"I8", 1},
    {"U8", 1},   {"BOOL", 1}, {"I16", 2}, {"U16", 2},     {"I32", 4},
    {"U32", 4},  {"I64", 8},  {"U64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
};

/* Bytes of an element; 0 for a dtype that this table does not know. */
static size_t dtype_bytes(const char *name)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, name) == 0)
            return dtypes[i].bytes;
    }
    return 0;
}

static phi3_status bad_tensor(const char *path, const char *name, const char *fault,
                              phi3_error *error)
{
    return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: tensor '%s': %s", path, name, fault);
}

/* An integer that cJSON's double holds exactly. */
static bool to_size(const cJSON *item, size_t *out)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 0x1p53))
        return false;
    *out = (size_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

/* Gives the number of elements. */
static phi3_status read_shape(const char *path, const cJSON *shape, entry *out, size_t *n_elements,
                              phi3_error *error)
{
    if (!cJSON_IsArray(shape))
        return bad_tensor(path, out->name, "it has no \"shape\" list", error);
    *n_elements = 1;
    for (const cJSON *item = shape->child; item; item = item->next) {
        if (out->n_dimensions == MAX_DIMENSIONS)
            return bad_tensor(path, out->name, "it has more than 8 dimensions", error);
        size_t *dimension = &out->shape[out->n_dimensions++];
        if (!to_size(item, dimension))
            return bad_tensor(path, out->name, "its \"shape\" holds more than integers", error);
        if (phi3_multiply_overflows(*n_elements, *dimension, n_elements))
            return bad_tensor(path, out->name, "its \"shape\" is impossibly large", error);
    }
    return PHI3_OK;
}

/* Gives the bytes [begin, end) of the data that the tensor takes. */
static phi3_status read_offsets(const char *path, const cJSON *offsets, const char *name,
                                size_t data_size, size_t *begin, size_t *end, phi3_error *error)
{
    const cJSON *first = cJSON_IsArray(offsets) ? offsets->child : NULL;
    if (!first || !first->next || first->next->next || !to_size(first, begin) ||
        !to_size(first->next, end))
        return bad_tensor(path, name, "its \"data_offsets\" are not two integers", error);
    if (*begin > *end || *end > data_size)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%s' takes bytes %zu to %zu, but the file has only %zu bytes "
                         "of tensors: it is truncated or damaged",
                         path, name, *begin, *end, data_size);
    return PHI3_OK;
}

static phi3_status read_tensor(const char *path, const cJSON *item, const uint8_t *data,
                               size_t data_size, entry *out, phi3_error *error)
{
    const char *dtype = NULL;
    size_t n_elements = 0, begin = 0, end = 0, expected;
    *out = (entry){.name = item->string};
    if (!cJSON_IsObject(item))
        return bad_tensor(path, out->name, "it is not described by an object", error);
    PHI3_TRY(phi3_json_string(path, item, "dtype", &dtype, error));
    if (!dtype)
        return bad_tensor(path, out->name, "it has no \"dtype\"", error);
    out->dtype = dtype;
    PHI3_TRY(
        read_shape(path, cJSON_GetObjectItemCaseSensitive(item, "shape"), out, &n_elements, error));
    PHI3_TRY(read_offsets(path, cJSON_GetObjectItemCaseSensitive(item, "data_offsets"), out->name,
                          data_size, &begin, &end, error));
    size_t width = dtype_bytes(dtype);
    if (width > 0 &&
        (phi3_multiply_overflows(n_elements, width, &expected) || expected != end - begin))
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: tensor '%s' has %zu elements of %s, but takes %zu bytes", path,
                         out->name, n_elements, dtype, end - begin);
    out->data = data + begin;
    return PHI3_OK;
}

/* ---- One file ------------------------------------------------------------------------------ */

/* Parses the header and gives the place where the data starts. */
static phi3_status read_header(shard *one, size_t *data_start, phi3_error *error)
{
    const phi3_file *file = &one->file;
    uint64_t length;
    if (file->size < LENGTH_BYTES)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: %zu bytes are too few for a safetensors file", file->path,
                         file->size);
    memcpy(&length, file->data, sizeof length);
    if (length > file->size - LENGTH_BYTES || length > MAX_HEADER_BYTES)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                         "%s: the header's length is %llu, but the file has %zu bytes and %d are "
                         "the limit: not a safetensors file, or truncated",
                         file->path, (unsigned long long)length, file->size, MAX_HEADER_BYTES);
    PHI3_TRY(phi3_json_parse(file->path, (const char *)file->data + LENGTH_BYTES, (size_t)length,
                             &one->header, error));
    if (!cJSON_IsObject(one->header))
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: the header is not a JSON object",
                         file->path);
    *data_start = LENGTH_BYTES + (size_t)length;
    return PHI3_OK;
}

static bool is_metadata(const cJSON *item)
{
    return strcmp(item->string, "__metadata__") == 0;
}

/* Appends the tensors of the shard to the table. */
static phi3_status read_shard(phi3_safetensors *tensors, size_t index, phi3_error *error)
{
    shard *one = &tensors->shards[index];
    size_t data_start = 0;
    PHI3_TRY(read_header(one, &data_start, error));
    size_t count = tensors->n_entries + (size_t)cJSON_GetArraySize(one->header);
    entry *grown = realloc(tensors->entries, (count ? count : 1) * sizeof *grown);
    if (!grown)
        return phi3_fail_memory(error, "the tensors of a safetensors file");
    tensors->entries = grown;
    for (const cJSON *item = one->header->child; item; item = item->next) {
        if (is_metadata(item))
            continue;
        entry *next = &tensors->entries[tensors->n_entries];
        PHI3_TRY(read_tensor(one->file.path, item, one->file.data + data_start,
                             one->file.size - data_start, next, error));
        next->shard = index;
        tensors->n_entries++;
    }
    return PHI3_OK;
}

static phi3_status add_shard(phi3_safetensors *tensors, const char *directory, const char *name,
                             phi3_error *error)
{
    shard *grown = realloc(tensors->shards, (tensors->n_shards + 1) * sizeof *grown);
    char *path = phi3_path_join(directory, name);
    if (grown)
        tensors->shards = grown;
    if (!grown || !path) {
        free(path);
        return phi3_fail_memory(error, "a shard");
    }
    shard *one = &tensors->shards[tensors->n_shards];
    *one = (shard){0};
    phi3_status status = phi3_file_open(path, &one->file, error);
    free(path);
    PHI3_TRY(status);
    tensors->n_shards++;
    return read_shard(tensors, tensors->n_shards - 1, error);
}

/* ---- The table ----------------------------------------------------------------------------- */

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->name, ((const entry *)b)->name);
}

static const entry *find_entry(const phi3_safetensors *tensors, const char *name)
{
    entry wanted = {.name = name};
    if (tensors->n_entries == 0)
        return NULL;
    return bsearch(&wanted, tensors->entries, tensors->n_entries, sizeof wanted, compare_entries);
}

static const char *shard_path(const phi3_safetensors *tensors, const entry *one)
{
    return tensors->shards[one->shard].file.path;
}

static phi3_status sort_entries(phi3_safetensors *tensors, phi3_error *error)
{
    if (tensors->n_entries < 2)
        return PHI3_OK;
    qsort(tensors->entries, tensors->n_entries, sizeof *tensors->entries, compare_entries);
    for (size_t i = 1; i < tensors->n_entries; i++) {
        const entry *one = &tensors->entries[i];
        if (strcmp(one[-1].name, one->name) == 0)
            return bad_tensor(shard_path(tensors, one), one->name, "it occurs twice", error);
    }
    return PHI3_OK;
}

/* ---- The index of a sharded model ---------------------------------------------------------- */

/* A file beside the index, and nothing else. */
static bool is_shard_name(const cJSON *item)
{
    return cJSON_IsString(item) && *item->valuestring && !strchr(item->valuestring, '/') &&
           *item->valuestring != '.';
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool is_open(const phi3_safetensors *tensors, const char *name)
{
    for (size_t i = tensors->n_shards; i-- > 0;) { /* neighbours mostly share a shard */
        if (strcmp(base_name(tensors->shards[i].file.path), name) == 0)
            return true;
    }
    return false;
}

static phi3_status open_shards(const char *path, const char *directory, const cJSON *map,
                               phi3_safetensors *tensors, phi3_error *error)
{
    for (const cJSON *item = map->child; item; item = item->next) {
        if (!is_shard_name(item))
            return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                             "%s: tensor '%s' is not mapped to a file of the same directory", path,
                             item->string);
        if (is_open(tensors, item->valuestring))
            continue;
        if (tensors->n_shards == MAX_SHARDS)
            return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: more than %d shards", path,
                             MAX_SHARDS);
        PHI3_TRY(add_shard(tensors, directory, item->valuestring, error));
    }
    return sort_entries(tensors, error);
}

/* Every tensor must be where the index says. */
static phi3_status check_index(const char *path, const cJSON *map, const phi3_safetensors *tensors,
                               phi3_error *error)
{
    for (const cJSON *item = map->child; item; item = item->next) {
        const entry *one = find_entry(tensors, item->string);
        if (!one || strcmp(base_name(shard_path(tensors, one)), item->valuestring) != 0)
            return phi3_fail(error, PHI3_ERROR_BAD_FILE,
                             "%s: tensor '%s' should be in %s, but is not", path, item->string,
                             item->valuestring);
    }
    return PHI3_OK;
}

static phi3_status open_index(const char *path, const char *directory, phi3_safetensors *tensors,
                              phi3_error *error)
{
    cJSON *root = NULL;
    PHI3_TRY(phi3_json_load(path, MAX_INDEX_BYTES, &root, error));
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(root, "weight_map");
    phi3_status status;
    if (!cJSON_IsObject(map) || !map->child)
        status = phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: \"weight_map\" lists no tensors", path);
    else
        status = open_shards(path, directory, map, tensors, error);
    if (status == PHI3_OK)
        status = check_index(path, map, tensors, error);
    cJSON_Delete(root);
    return status;
}

/* ---- The directory ------------------------------------------------------------------------- */

static bool contains(const char *directory, const char *name)
{
    char *path = phi3_path_join(directory, name);
    bool found = path && phi3_path_is_file(path);
    free(path);
    return found;
}

static phi3_status no_weights(const char *directory, phi3_error *error)
{
    if (contains(directory, "pytorch_model.bin") ||
        contains(directory, "pytorch_model.bin.index.json"))
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: has pytorch_model.bin but no safetensors; convert it with "
                         "transformers: AutoModelForCausalLM.from_pretrained(directory)"
                         ".save_pretrained(directory)",
                         directory);
    return phi3_fail(error, PHI3_ERROR_NOT_FOUND,
                     "%s: has neither model.safetensors nor model.safetensors.index.json",
                     directory);
}

static phi3_status open_directory(const char *directory, phi3_safetensors *tensors,
                                  phi3_error *error)
{
    if (contains(directory, "model.safetensors")) {
        PHI3_TRY(add_shard(tensors, directory, "model.safetensors", error));
        return sort_entries(tensors, error);
    }
    if (!contains(directory, "model.safetensors.index.json"))
        return no_weights(directory, error);
    char *path = phi3_path_join(directory, "model.safetensors.index.json");
    if (!path)
        return phi3_fail_memory(error, "a path");
    phi3_status status = open_index(path, directory, tensors, error);
    free(path);
    return status;
}

phi3_status phi3_safetensors_open(const char *directory, phi3_safetensors **out, phi3_error *error)
{
    phi3_safetensors *tensors = calloc(1, sizeof *tensors);
    if (!tensors)
        return phi3_fail_memory(error, "safetensors files");
    phi3_status status = open_directory(directory, tensors, error);
    if (status != PHI3_OK) {
        phi3_safetensors_close(tensors);
        return status;
    }
    *out = tensors;
    return PHI3_OK;
}

void phi3_safetensors_close(phi3_safetensors *tensors)
{
    if (!tensors)
        return;
    for (size_t i = 0; i < tensors->n_shards; i++) {
        cJSON_Delete(tensors->shards[i].header);
        phi3_file_close(&tensors->shards[i].file);
    }
    free(tensors->shards);
    free(tensors->entries);
    free(tensors);
}

/* ---- Look-ups ------------------------------------------------------------------------------ */

static bool read_dtype(const char *name, phi3_dtype *out)
{
    if (strcmp(name, "F32") == 0)
        *out = PHI3_F32;
    else if (strcmp(name, "F16") == 0)
        *out = PHI3_F16;
    else if (strcmp(name, "BF16") == 0)
        *out = PHI3_BF16;
    else
        return false;
    return true;
}

phi3_status phi3_safetensors_find(const phi3_safetensors *tensors, const char *name,
                                  phi3_tensor *out, const char **file, bool *found,
                                  phi3_error *error)
{
    const entry *one = find_entry(tensors, name);
    *found = one != NULL;
    if (!one)
        return PHI3_OK;
    *file = shard_path(tensors, one);
    phi3_tensor tensor = {.n_rows = 1, .data = one->data};
    if (!read_dtype(one->dtype, &tensor.dtype))
        return phi3_fail(error, PHI3_ERROR_UNSUPPORTED,
                         "%s: tensor '%s' is of %s; phi3 reads F32, F16 and BF16", *file, name,
                         one->dtype);
    if (one->n_dimensions != 1 && one->n_dimensions != 2)
        return phi3_fail(error, PHI3_ERROR_BAD_FILE, "%s: tensor '%s' has %zu dimensions", *file,
                         name, one->n_dimensions);
    if (one->n_dimensions == 2)
        tensor.n_rows = one->shape[0];
    tensor.n_columns = one->shape[one->n_dimensions - 1];
    *out = tensor;
    return PHI3_OK;
}

size_t phi3_safetensors_file_count(const phi3_safetensors *tensors)
{
    return tensors->n_shards;
}

const phi3_file *phi3_safetensors_file(const phi3_safetensors *tensors, size_t index)
{
    return &tensors->shards[index].file;
}

size_t phi3_safetensors_count(const phi3_safetensors *tensors)
{
    return tensors->n_entries;
}

const char *phi3_safetensors_name(const phi3_safetensors *tensors, size_t index)
{
    return tensors->entries[index].name;
}
