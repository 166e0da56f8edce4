/* Pillow's BILINEAR resize of a box of BGRX pixels to a square, in AVX2: byte for byte what Pillow makes of it.

   Pillow weighs the pixels under a triangle, in two passes with whole grey levels between them; weights are fixed-point
   numbers of WEIGHT_BITS. Its own loops are scalar; here four channels of four pixels are weighed together. */

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define WEIGHT_BITS 22
#define HALF (1 << (WEIGHT_BITS - 1))
#define AVX2 __attribute__((target("avx2")))
#define EXPORTED __attribute__((visibility("default")))

typedef struct {
    int32_t *first; /* of each output pixel: the first input pixel that it sees */
    int32_t *count; /* and how many */
    int32_t *weights; /* [side, reach] */
    int32_t reach;
} Pass;

static int32_t reach_of(int32_t size, int32_t side)
{
    double scale = size > side ? (double)size / side : 1.0;
    int32_t support = (int32_t)scale;
    return 2 * (support + (support < scale)) + 1;
}

static int64_t pass_bytes(int32_t size, int32_t side)
{
    return (int64_t)sizeof(int32_t) * side * (2 + reach_of(size, side));
}

/* The weights of a pass from `size` pixels to `side`; the order of the arithmetic is Pillow's, for its rounding is. */
static Pass prepare(int32_t size, int32_t side, int32_t *room)
{
    Pass pass = {room, room + side, room + 2 * side, reach_of(size, side)};
    double scale = (double)size / side;
    double support = scale < 1.0 ? 1.0 : scale, step = 1.0 / support;
    for (int32_t x = 0; x < side; x++) {
        double centre = (x + 0.5) * scale, sum = 0.0;
        int32_t low = (int32_t)(centre - support + 0.5), high = (int32_t)(centre + support + 0.5);
        low = low < 0 ? 0 : low;
        high = high > size ? size : high;
        int32_t *weights = pass.weights + (int64_t)x * pass.reach;
        for (int turn = 0; turn < 2; turn++) { /* the sum is known after the first */
            for (int32_t i = 0; i < high - low; i++) {
                double distance = (i + low - centre + 0.5) * step;
                distance = distance < 0.0 ? -distance : distance;
                double weight = distance < 1.0 ? 1.0 - distance : 0.0;
                if (turn == 0)
                    sum += weight;
                else
                    weights[i] = (int32_t)(0.5 + (sum != 0.0 ? weight / sum : weight) * (1 << WEIGHT_BITS));
            }
        }
        pass.first[x] = low;
        pass.count[x] = high - low;
    }
    return pass;
}

AVX2 static inline __m128i pixel(const uint8_t *at)
{
    int32_t four;
    memcpy(&four, at, 4);
    return _mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
}

AVX2 static inline __m128i weighed(__m128i sum, const uint8_t *at, __m128i weight)
{
    return _mm_add_epi32(sum, _mm_mullo_epi32(pixel(at), weight));
}

AVX2 static inline void put(uint8_t *to, __m128i sum)
{
    __m128i words = _mm_packs_epi32(_mm_srai_epi32(sum, WEIGHT_BITS), _mm_setzero_si128());
    int32_t four = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    memcpy(to, &four, 4);
}

/* Rows of any width to rows of `side` pixels; four rows at once. */
AVX2 static void across(const uint8_t *in, int64_t stride, int32_t rows, int32_t side, const Pass *pass, uint8_t *out)
{
    const __m128i half = _mm_set1_epi32(HALF);
    const int64_t line = 4 * (int64_t)side;
    for (int32_t y = 0; y < rows; y += 4) {
        /* Of the last rows, where fewer than four are left, the last one is done several times. */
        const uint8_t *from[4];
        uint8_t *to[4];
        for (int32_t i = 0; i < 4; i++) {
            int32_t row = y + i < rows ? y + i : rows - 1;
            from[i] = in + row * stride;
            to[i] = out + row * line;
        }
        for (int32_t x = 0; x < side; x++) {
            const int32_t *weights = pass->weights + (int64_t)x * pass->reach;
            int64_t at = 4 * (int64_t)pass->first[x];
            __m128i a = half, b = half, c = half, d = half;
            for (int32_t i = 0; i < pass->count[x]; i++, at += 4) {
                __m128i weight = _mm_set1_epi32(weights[i]);
                a = weighed(a, from[0] + at, weight);
                b = weighed(b, from[1] + at, weight);
                c = weighed(c, from[2] + at, weight);
                d = weighed(d, from[3] + at, weight);
            }
            put(to[0] + 4 * x, a);
            put(to[1] + 4 * x, b);
            put(to[2] + 4 * x, c);
            put(to[3] + 4 * x, d);
        }
    }
}

AVX2 static inline __m256i two_pixels(const uint8_t *at)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at));
}

/* Any number of rows to `side` rows of the same width; eight pixels or one at once. */
AVX2 static void down(const uint8_t *in, int64_t stride, int32_t width, int32_t side, const Pass *pass, uint8_t *out)
{
    const __m256i half = _mm256_set1_epi32(HALF);
    const int64_t line = 4 * (int64_t)width;
    for (int32_t y = 0; y < side; y++) {
        const int32_t *weights = pass->weights + (int64_t)y * pass->reach;
        const uint8_t *top = in + pass->first[y] * stride;
        uint8_t *to = out + y * line;
        int32_t count = pass->count[y];
        int64_t at = 0;
        for (; at + 32 <= line; at += 32) {
            const uint8_t *from = top + at;
            __m256i sums[4] = {half, half, half, half};
            for (int32_t i = 0; i < count; i++, from += stride) {
                __m256i weight = _mm256_set1_epi32(weights[i]);
                for (int two = 0; two < 4; two++)
                    sums[two] = _mm256_add_epi32(sums[two], _mm256_mullo_epi32(two_pixels(from + 8 * two), weight));
            }
            for (int two = 0; two < 4; two++) {
                put(to + at + 8 * two, _mm256_castsi256_si128(sums[two]));
                put(to + at + 8 * two + 4, _mm256_extracti128_si256(sums[two], 1));
            }
        }
        for (; at < line; at += 4) {
            __m128i sum = _mm256_castsi256_si128(half);
            for (int32_t i = 0; i < count; i++)
                sum = weighed(sum, top + i * stride + at, _mm_set1_epi32(weights[i]));
            put(to + at, sum);
        }
    }
}

/* BGRX to BGR; four pixels or one at once. */
AVX2 static void pack(const uint8_t *in, int64_t pixels, uint8_t *out)
{
    const __m128i order = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    int64_t at = 0;
    for (; at + 6 <= pixels; at += 4) /* 16 bytes are written where 12 belong: two pixels more must be to come */
        _mm_storeu_si128((__m128i *)(out + 3 * at),
                         _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(in + 4 * at)), order));
    for (; at < pixels; at++)
        memcpy(out + 3 * at, in + 4 * at, 3);
}

/* Whether this CPU has what the rest needs. */
EXPORTED int resample_runs_here(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}

/* Bytes that `resample` works in. */
EXPORTED int64_t resample_room(int32_t width, int32_t height, int32_t side, int32_t vertical_first)
{
    int64_t between = vertical_first ? width : height;
    return pass_bytes(width, side) + pass_bytes(height, side) + 4 * (between + side) * side;
}

/* A box of width x height BGRX pixels, in rows of `stride` bytes, to side x side BGR pixels.

   room: resample_room bytes, aligned for int32_t. */
EXPORTED void resample(const uint8_t *in, int64_t stride, int32_t width, int32_t height, int32_t side,
                       int32_t vertical_first, uint8_t *room, uint8_t *out)
{
    Pass horizontal = prepare(width, side, (int32_t *)room);
    room += pass_bytes(width, side);
    Pass vertical = prepare(height, side, (int32_t *)room);
    room += pass_bytes(height, side);
    uint8_t *square = room, *between = room + 4 * (int64_t)side * side;
    if (vertical_first) {
        down(in, stride, width, side, &vertical, between);
        across(between, 4 * (int64_t)width, side, side, &horizontal, square);
    } else {
        across(in, stride, height, side, &horizontal, between);
        down(between, 4 * (int64_t)side, side, side, &vertical, square);
    }
    pack(square, (int64_t)side * side, out);
}
