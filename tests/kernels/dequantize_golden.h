/* dequantize_golden.h - written by make_dequantize_golden.py with gguf 0.19.0: the
 * FNV-1a hashes of the float32 bits. */
enum { GOLDEN_COLUMNS = 2304 };

static const struct {
    phi3_dtype dtype;
    uint64_t hash;
} golden[] = {
    {PHI3_F32, 0x88f3034022fcd252},    {PHI3_F16, 0x32650a3b3c2b203e},
    {PHI3_BF16, 0xc31a1c9bb34eb7bd},   {PHI3_Q4_0, 0x10cb7c4c4e43ef11},
    {PHI3_Q4_1, 0x30832237b9b372e9},   {PHI3_Q5_0, 0x8eb309f943ea6b38},
    {PHI3_Q5_1, 0xb55e08fd8a232578},   {PHI3_Q8_0, 0x002b5d943c99418d},
    {PHI3_Q2_K, 0xcc317b3401964893},   {PHI3_Q3_K, 0xbafaf97f4628c8cc},
    {PHI3_Q4_K, 0xcb3e7eaa723c2f67},   {PHI3_Q5_K, 0xe40109c5073e65e2},
    {PHI3_Q6_K, 0x2c1796430df48b5f},   {PHI3_IQ4_NL, 0xffa1910293cc6308},
    {PHI3_IQ4_XS, 0xe869252a77bdae40},
};
