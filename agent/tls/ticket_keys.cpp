// SPDX-License-Identifier: Apache-2.0
#include "tls/ticket_keys.hpp"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>
#include <span>

namespace mesh::tls {
namespace {

// A key: name, cipher, mac, seconds since 1970 (64 bits, this machine's order: it never leaves it).
constexpr std::string_view kMagic = "meshd-tickets-1\n";
constexpr std::size_t kKeyBytes = 16 + 32 + 32 + 8;

template <std::size_t N>
void take(std::string_view& bytes, std::array<std::uint8_t, N>& out) {
  std::memcpy(out.data(), bytes.data(), N);
  bytes.remove_prefix(N);
}

template <std::size_t N>
void put(std::string& bytes, const std::array<std::uint8_t, N>& in) {
  bytes.append(reinterpret_cast<const char*>(in.data()), N);
}

}  // namespace

TicketKeys::~TicketKeys() { OPENSSL_cleanse(keys.data(), keys.size() * sizeof(TicketKey)); }

TicketKey make_ticket_key(base::WallTime now) {
  TicketKey key;
  key.made = now;
  for (const auto bytes :
       {std::span<std::uint8_t>(key.name), std::span<std::uint8_t>(key.cipher), std::span<std::uint8_t>(key.mac)}) {
    MESH_ASSERT(RAND_priv_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  }
  return key;
}

bool rotate(TicketKeys& keys, base::WallTime now) {
  // A clock that was set back must not keep a key in use for longer.
  if (!keys.keys.empty() && now >= keys.keys.front().made && now < keys.keys.front().made + kTicketKeyLife) {
    return false;
  }
  TicketKeys rotated;
  rotated.keys.push_back(make_ticket_key(now));
  const std::size_t kept = std::min(keys.keys.size(), kTicketKeysKept - 1);
  rotated.keys.insert(rotated.keys.end(), keys.keys.begin(), keys.keys.begin() + static_cast<std::ptrdiff_t>(kept));
  std::swap(keys.keys, rotated.keys);
  return true;
}

std::string encode(const TicketKeys& keys) {
  std::string bytes(kMagic);
  for (const TicketKey& key : keys.keys) {
    put(bytes, key.name);
    put(bytes, key.cipher);
    put(bytes, key.mac);
    const std::int64_t made = std::chrono::floor<std::chrono::seconds>(key.made.time_since_epoch()).count();
    bytes.append(reinterpret_cast<const char*>(&made), sizeof made);
  }
  return bytes;
}

base::Result<TicketKeys> decode_ticket_keys(std::string_view bytes) {
  if (!bytes.starts_with(kMagic) || (bytes.size() - kMagic.size()) % kKeyBytes != 0 ||
      (bytes.size() - kMagic.size()) / kKeyBytes > kTicketKeysKept) {
    return base::fail(base::ErrorKind::kInvalid, "read ticket keys: these are none of this version");
  }
  bytes.remove_prefix(kMagic.size());
  TicketKeys read;
  while (!bytes.empty()) {
    TicketKey& key = read.keys.emplace_back();
    take(bytes, key.name);
    take(bytes, key.cipher);
    take(bytes, key.mac);
    std::int64_t made = 0;
    std::memcpy(&made, bytes.data(), sizeof made);
    bytes.remove_prefix(sizeof made);
    constexpr std::int64_t kSecondsMax = std::chrono::floor<std::chrono::seconds>(base::Duration::max()).count();
    key.made = base::WallTime{std::chrono::seconds(std::clamp<std::int64_t>(made, 0, kSecondsMax))};
  }
  return read;
}

}  // namespace mesh::tls
