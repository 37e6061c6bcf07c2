// SPDX-License-Identifier: Apache-2.0
// A small seeded generator (SplitMix64, public domain algorithm by S. Vigna) and the project's one 64-bit hash.
// Deterministic on purpose: a seed that a test prints reproduces its run. Not for secrets.
#pragma once

#include <cstdint>
#include <span>

namespace mesh::base {

/// Finaliser with full avalanche; the same function as mesh_mix64() in bpf/include/mesh_balance.h.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebULL;
  x ^= x >> 31;
  return x;
}

class Random {
 public:
  explicit constexpr Random(std::uint64_t seed) : state_(seed) {}

  constexpr std::uint64_t next() { return mix64(state_ += 0x9e3779b97f4a7c15ULL); }
  /// Uniform in [0, bound), bound > 0 (multiply-shift; the bias is below bound / 2^64).
  constexpr std::uint64_t below(std::uint64_t bound) {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  /// Uniform in [0, 1).
  constexpr double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

 private:
  std::uint64_t state_;
};

/// FNV-1a over the bytes, then mix64. Stable over versions and machines: Maglev tables are built from it.
[[nodiscard]] constexpr std::uint64_t hash64(std::span<const std::uint8_t> bytes, std::uint64_t seed = 0) {
  std::uint64_t hash = 0xcbf29ce484222325ULL ^ mix64(seed + 1);
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3ULL;
  return mix64(hash);
}

}  // namespace mesh::base
