// SPDX-License-Identifier: Apache-2.0
#include "balance/maglev.hpp"

#include <algorithm>

#include "base/random.hpp"

namespace mesh::balance {
namespace {

constexpr std::uint32_t kFree = 0xffffffff;

struct Permutation {
  std::uint32_t next;  ///< The entry it wants next.
  std::uint32_t skip;
};

Permutation permutation_of(const base::SocketAddress& address, std::uint32_t entries) {
  std::array<std::uint8_t, 18> bytes{};
  std::copy(address.ip.bytes.begin(), address.ip.bytes.end(), bytes.begin());
  bytes[16] = static_cast<std::uint8_t>(address.port >> 8);
  bytes[17] = static_cast<std::uint8_t>(address.port);
  return {static_cast<std::uint32_t>(base::hash64(bytes, 1) % entries),
          static_cast<std::uint32_t>(base::hash64(bytes, 2) % (entries - 1) + 1)};
}

}  // namespace

std::uint32_t maglev_entries(std::size_t routes, std::uint32_t configured) {
  if (routes <= configured) return configured;
  for (const std::uint32_t size : kMaglevSizes) {
    if (routes <= size) return size;
  }
  return kMaglevSizes.back();
}

void build_maglev(std::span<const base::SocketAddress> addresses, std::span<const std::uint16_t> weights,
                  std::uint32_t entries, Table& table) {
  const std::size_t count = weights.size();
  const std::vector<std::uint32_t> shares = apportion(weights, entries);
  const std::uint32_t rounds = *std::max_element(shares.begin(), shares.end());
  std::vector<std::uint32_t> credits(count, 0);
  std::vector<Permutation> permutations;
  permutations.reserve(count);
  for (const base::SocketAddress& address : addresses) permutations.push_back(permutation_of(address, entries));

  table.picks.assign(entries, kFree);
  for (std::uint32_t round = 0; round < rounds; ++round) {
    for (std::uint32_t i = 0; i < count; ++i) {
      credits[i] += shares[i];
      if (credits[i] < rounds) continue;
      credits[i] -= rounds;
      Permutation& own = permutations[i];
      while (true) {
        const std::uint32_t wanted = own.next;
        own.next += own.skip;
        if (own.next >= entries) own.next -= entries;
        if (table.picks[wanted] != kFree) continue;
        table.picks[wanted] = i;
        break;
      }
    }
  }
}

}  // namespace mesh::balance
