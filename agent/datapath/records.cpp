// SPDX-License-Identifier: Apache-2.0
#include "datapath/records.hpp"

#include <arpa/inet.h>

#include <cstring>
#include <span>

#include "base/random.hpp"

namespace mesh::datapath {

mesh_frontend_key key_of(const model::Frontend& frontend) {
  mesh_frontend_key key{};
  std::memcpy(key.addr, frontend.address.ip.bytes.data(), sizeof(key.addr));
  key.port_be = htons(frontend.address.port);
  key.proto = static_cast<std::uint8_t>(frontend.protocol);
  return key;
}

model::Frontend frontend_of(const mesh_frontend_key& key) {
  model::Frontend frontend;
  std::memcpy(frontend.address.ip.bytes.data(), key.addr, sizeof(key.addr));
  frontend.address.port = ntohs(key.port_be);
  frontend.protocol = static_cast<model::Protocol>(key.proto);
  return frontend;
}

std::string to_string(const mesh_frontend_key& key) { return frontend_of(key).to_string(); }

base::SocketAddress address_of(const mesh_backend& backend) {
  base::SocketAddress address;
  std::memcpy(address.ip.bytes.data(), backend.addr, sizeof(backend.addr));
  address.port = ntohs(backend.port_be);
  return address;
}

std::uint32_t seed_of(const model::Frontend& frontend) {
  const mesh_frontend_key key = key_of(frontend);
  return static_cast<std::uint32_t>(
      base::hash64(std::span<const std::uint8_t>(reinterpret_cast<const std::uint8_t*>(&key), sizeof(key))));
}

}  // namespace mesh::datapath
