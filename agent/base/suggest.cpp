// SPDX-License-Identifier: Apache-2.0
#include "base/suggest.hpp"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <vector>

namespace mesh::base {
namespace {

constexpr std::size_t kMaxCompared = 64;  ///< Longer text is no misspelt key, and costs quadratic time.

char fold(char c) { return c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

/// Optimal string alignment distance, letters folded: "hashKey", "hash-key" and "hash_key" are near.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) cost[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) cost[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const bool same = fold(a[i - 1]) == fold(b[j - 1]);
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1])) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string_view nearest_name(std::string_view text, std::span<const std::string_view> known) {
  if (text.empty() || text.size() > kMaxCompared) return {};
  std::string_view best;
  std::size_t best_distance = ~std::size_t{0};
  for (const std::string_view candidate : known) {
    std::size_t d = distance(text, candidate);
    const bool is_start = text.size() >= 3 && (candidate.starts_with(text) || text.starts_with(candidate));
    if (d > std::max<std::size_t>(1, candidate.size() / 3)) {
      if (!is_start) continue;
      d = candidate.size() / 3 + 1;
    }
    if (d < best_distance) {
      best_distance = d;
      best = candidate;
    }
  }
  return best;
}

std::string suggest_name(std::string_view text, std::span<const std::string_view> known) {
  if (const std::string_view nearest = nearest_name(text, known); !nearest.empty()) {
    return "did you mean '" + std::string(nearest) + "'?";
  }
  std::string all = "use one of: ";
  for (std::size_t i = 0; i < known.size(); ++i) all += (i == 0 ? "" : ", ") + std::string(known[i]);
  return all;
}

}  // namespace mesh::base
