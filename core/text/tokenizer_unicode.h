/* tokenizer_unicode.h - characters that PCRE2 does not know, as others that it does. */
#ifndef PHI3_INTERNAL_TOKENIZER_UNICODE_H
#define PHI3_INTERNAL_TOKENIZER_UNICODE_H

#include <stdint.h>

/* The stand-in for a character that PCRE2's tables do not know as tokenizers' do, with as many bytes
 * in UTF-8; the character itself when there is no need. */
uint32_t phi3_unicode_stand_in(uint32_t character);

#endif
