// SPDX-License-Identifier: Apache-2.0
// DNS messages as the responder needs them (RFC 1035, RFC 2782, RFC 6891): one plain question is read, an answer is
// written. Whatever is not one plain question is not read at all: it is passed on as it came.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/address.hpp"

namespace mesh::names {

enum class Type : std::uint16_t {
  kA = 1,
  kNs = 2,
  kSoa = 6,
  kPtr = 12,
  kAaaa = 28,
  kSrv = 33,
  kOpt = 41,
  kAny = 255,
};  // other values pass through here, too

enum class Rcode : std::uint8_t { kNoError = 0, kServerFailure = 2, kNameError = 3 };

inline constexpr std::size_t kHeaderSize = 12;
inline constexpr std::size_t kPlainUdpSize = 512;  ///< What a client without EDNS takes (RFC 1035 section 4.2.1).
inline constexpr std::size_t kMaxMessage = 65535;

/// A message with QR 0, opcode QUERY and exactly one question, class IN.
struct Query {
  std::uint16_t id = 0;
  bool recursion_desired = false;
  std::string name;  ///< Lower case, without the last dot: "orders.mesh". Empty: the root.
  Type type = Type::kA;
  std::optional<std::uint16_t> edns_size;       ///< What the client says it takes by UDP, at least 512.
  std::span<const std::byte> question;          ///< As it came, for the answer: name with its case, type, class.
  [[nodiscard]] std::size_t udp_limit() const;  ///< Bytes an answer by UDP may have: at most 1232 (RFC 9715).
};

/// Nothing: not such a message, or broken. `message` must outlive the result.
std::optional<Query> parse_query(std::span<const std::byte> message);

struct Srv {
  std::uint16_t port = 0;
  std::string target;  ///< Without the last dot.
};
struct Soa {
  std::string zone;
  std::uint32_t negative_ttl_s = 0;
};
struct Record {
  std::string name;
  std::uint32_t ttl_s = 0;
  std::variant<base::IpAddress, Srv, std::string, Soa> data;  ///< A or AAAA, SRV, PTR, SOA.
};

struct Answer {
  Rcode rcode = Rcode::kNoError;
  std::vector<Record> answers;
  std::vector<Record> authority;
  std::vector<Record> additional;
};

/// The message, authoritative, at most `limit` bytes: what doesn't fit is left out whole, additional records first;
/// without room for all answers it says so (TC) and has none. Names in records must be right (is_name()).
std::vector<std::byte> encode(const Query& query, const Answer& answer, std::size_t limit);

/// Labels of 1 to 63 bytes, 253 in all.
bool is_name(std::string_view name);

}  // namespace mesh::names
