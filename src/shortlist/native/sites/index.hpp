// Vector search, many queries at once: estimate all rows, shortlist the best of each query, compute these exactly.
#pragma once
#include <vector>

#include "blocks/decoder.hpp"

namespace shortlist {

// out[q, r] = row r . query q. A block of rows is scored for every query while it is in the cache.
void estimate_each(const Rows& rows, const Batch& queries, float* out);

// The rows of the largest `count` values of each query, ascending: values [queries, rows] -> out [queries, count]. Of equal
// values the lowest rows are taken; NaN counts as -infinity. 1 <= count <= rows.
void shortlist_each(const float* values, int64_t queries, int64_t rows, int64_t count, int32_t* out);

// The `best` rows of each query's shortlist [queries, count] by exact value, largest first, ties to the lowest row. The table is
// the `parts`, one after the other; a shortlist is ascending. 1 <= best <= count.
void compute_each(const std::vector<Matrix>& parts, const Batch& queries, const int32_t* shortlists, int64_t count, int64_t best,
    int64_t* ids, float* scores);

}  // namespace shortlist
