/*
 * chat.h - chat templates as data: what each known Jinja template writes, and how it is recognised.
 */
#ifndef PHI3_INTERNAL_CHAT_H
#define PHI3_INTERNAL_CHAT_H

#include "phi3.h"

/* Text of a given size: it may hold NULs and need not end in one. */
typedef struct phi3_text {
    const char *text;
    size_t size;
} phi3_text;

/*
 * How the messages of a role are written:
 *
 *     before [role after_role] content [before_tools tools after_tools] after
 *
 * The first bracket is there when after_role is set, the second when before_tools is set and the
 * message offers tools.
 */
typedef struct phi3_chat_turn {
    const char *role; /* whose messages; NULL: everybody's */
    const char *before;
    const char *after_role;
    const char *before_tools;
    const char *after_tools;
    const char *after;
    bool skip_empty; /* a message without text is left out */
} phi3_chat_turn;

enum { PHI3_CHAT_MAX_TURNS = 3 };

typedef struct phi3_chat_format {
    bool starts_with_bos;
    const char
        *default_system; /* written first when the chat does not begin with a system message */
    phi3_chat_turn turns[PHI3_CHAT_MAX_TURNS]; /* the first that fits the role; none: left out */
    const char *generation_prompt;             /* NULL: the template knows none */
    bool ends_with_eos; /* the EOS token, where no generation prompt is asked for */
} phi3_chat_format;

/* The format that a template's Jinja source stands for; NULL: not a known one. */
const phi3_chat_format *phi3_chat_find_format(const char *source);

/* phi3_chat_render with the template and the spelling of its special tokens given; a token that the
 * tokenizer lacks is empty. `source` may be NULL: there is no template. */
phi3_status phi3_chat_render_template(const char *source, phi3_text bos, phi3_text eos,
                                      const phi3_message *messages, size_t count,
                                      const phi3_chat_options *options, char **text, size_t *size,
                                      phi3_error *error);

#endif
