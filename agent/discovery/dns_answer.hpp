// SPDX-License-Identifier: Apache-2.0
// What a DNS message says in answer to a question. Pure; the bytes are a stranger's.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"

namespace mesh::discovery {

/// Values of the wire.
enum class DnsType : std::uint16_t { kA = 1, kAaaa = 28, kSrv = 33 };
std::string_view to_string(DnsType type);  // "AAAA"

struct DnsQuestion {
  std::string name;  ///< Lower case, without a final dot.
  DnsType type = DnsType::kA;
  auto operator<=>(const DnsQuestion&) const = default;
};

struct DnsRecord {
  base::IpAddress ip;  ///< A, AAAA
  std::string target;  ///< SRV, as the question's name; empty for the target ".": no service here.
  std::uint16_t port = 0;
  std::uint16_t priority = 0;
  std::uint16_t weight = 0;
  bool operator==(const DnsRecord&) const = default;
};

struct DnsAnswer {
  /// Of the name asked for, or of what its CNAMEs lead to. Empty: there is no such name or no such record.
  std::vector<DnsRecord> records;
  std::uint32_t ttl_s = 0;  ///< The least of what was used; of the SOA if there are no records; 0 without one.
  /// Addresses that came along for the targets of SRV records.
  struct Additional {
    DnsQuestion question;
    DnsRecord record;
    std::uint32_t ttl_s = 0;
  };
  std::vector<Additional> additional;
};

inline constexpr unsigned kMaxCnames = 8;
inline constexpr std::size_t kMaxDnsRecords = 4096;  ///< Of one answer; 64 KiB hold about so many.

/// kInvalid: damaged, truncated, or CNAMEs without end. kUnavailable: the server could not answer (SERVFAIL, REFUSED
/// and whatever is no answer).
base::Result<DnsAnswer> parse_dns_answer(std::span<const std::uint8_t> message, const DnsQuestion& question);

}  // namespace mesh::discovery
