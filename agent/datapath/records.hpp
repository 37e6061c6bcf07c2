// SPDX-License-Identifier: Apache-2.0
// The model's values as the kernel's records hold them, and back.
#pragma once

#include <cstdint>
#include <string>

#include "base/address.hpp"
#include "mesh_abi.h"
#include "model/service.hpp"

namespace mesh::datapath {

[[nodiscard]] mesh_frontend_key key_of(const model::Frontend& frontend);
[[nodiscard]] model::Frontend frontend_of(const mesh_frontend_key& key);
[[nodiscard]] std::string to_string(const mesh_frontend_key& key);  // "240.64.0.10:80/tcp"
[[nodiscard]] base::SocketAddress address_of(const mesh_backend& backend);

/// What is the same for all nodes and all updates of a service, so that equal clients choose equally: the seed of the
/// hash of the client key.
[[nodiscard]] std::uint32_t seed_of(const model::Frontend& frontend);

[[nodiscard]] constexpr std::uint32_t range_of(std::uint64_t state) { return static_cast<std::uint32_t>(state); }
[[nodiscard]] constexpr std::uint32_t generation_of(std::uint64_t state) {
  return static_cast<std::uint32_t>(state >> 32);
}

/// Byte equality: no record has padding (mesh_abi.h).
template <typename Record>
[[nodiscard]] bool same(const Record& a, const Record& b) {
  return __builtin_memcmp(&a, &b, sizeof(Record)) == 0;
}

}  // namespace mesh::datapath
