// SPDX-License-Identifier: Apache-2.0
#include "discovery/dns_answer.hpp"

#include <arpa/nameser.h>
#include <fmt/format.h>
#include <resolv.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <string_view>

namespace mesh::discovery {
namespace {

constexpr std::size_t kSrvFixed = 6;   ///< Priority, weight, port.
constexpr std::size_t kSoaFixed = 20;  ///< Serial, refresh, retry, expire, minimum.

std::string normal_name(std::string_view text) {
  if (text.ends_with('.')) text.remove_suffix(1);
  std::string name(text);
  std::ranges::transform(name, name.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return name;
}

std::unexpected<base::Error> damaged(const DnsQuestion& question, std::string_view why) {
  return base::fail(base::ErrorKind::kInvalid,
                    fmt::format("read the answer for {} {}: {}", question.name, to_string(question.type), why));
}

/// A message as glibc's parser walks it.
class Message {
 public:
  static std::optional<Message> open(std::span<const std::uint8_t> bytes) {
    Message message;
    if (bytes.size() > NS_MAXMSG) return std::nullopt;
    if (ns_initparse(bytes.data(), static_cast<int>(bytes.size()), &message.handle_) != 0) return std::nullopt;
    return message;
  }
  [[nodiscard]] int flag(ns_flag which) const { return ns_msg_getflag(handle_, which); }
  /// False: a record is damaged.
  template <typename See>
  bool each(ns_sect section, See&& see) {
    const int count = ns_msg_count(handle_, section);
    for (int i = 0; i < count; ++i) {
      ns_rr record;
      if (ns_parserr(&handle_, section, i, &record) != 0) return false;
      if (ns_rr_class(record) == ns_c_in && !see(record)) return false;
    }
    return true;
  }
  /// A name within a record's data; nothing: it is damaged.
  [[nodiscard]] std::optional<std::string> name_at(const std::uint8_t* at) const {
    std::array<char, NS_MAXDNAME> text{};
    if (ns_name_uncompress(ns_msg_base(handle_), ns_msg_end(handle_), at, text.data(), text.size()) < 0) {
      return std::nullopt;
    }
    return normal_name(text.data());
  }
  /// Bytes of the name at `at`; nothing: it is damaged.
  [[nodiscard]] std::optional<std::size_t> name_size(const std::uint8_t* at, const std::uint8_t* end) const {
    const int size = dn_skipname(at, end);
    return size < 0 ? std::nullopt : std::optional<std::size_t>(static_cast<std::size_t>(size));
  }

 private:
  ns_msg handle_{};
};

/// An address record's address; nothing: of the wrong size.
std::optional<base::IpAddress> address_of(const ns_rr& record) {
  base::IpAddress ip;
  const std::uint8_t* const data = ns_rr_rdata(record);
  if (ns_rr_type(record) == ns_t_a && ns_rr_rdlen(record) == 4) {
    ip.bytes[10] = ip.bytes[11] = 0xff;
    std::copy_n(data, 4, ip.bytes.begin() + 12);
    return ip;
  }
  if (ns_rr_type(record) == ns_t_aaaa && ns_rr_rdlen(record) == 16) {
    std::copy_n(data, 16, ip.bytes.begin());
    return ip;
  }
  return std::nullopt;
}

std::optional<DnsRecord> record_of(const Message& message, const ns_rr& record) {
  DnsRecord result;
  if (ns_rr_type(record) != ns_t_srv) {
    const auto ip = address_of(record);
    if (!ip) return std::nullopt;
    result.ip = *ip;
    return result;
  }
  if (ns_rr_rdlen(record) <= kSrvFixed) return std::nullopt;
  const std::uint8_t* const data = ns_rr_rdata(record);
  result.priority = static_cast<std::uint16_t>(ns_get16(data));
  result.weight = static_cast<std::uint16_t>(ns_get16(data + 2));
  result.port = static_cast<std::uint16_t>(ns_get16(data + 4));
  auto target = message.name_at(data + kSrvFixed);
  if (!target) return std::nullopt;
  result.target = std::move(*target);
  return result;
}

/// The least of the SOA's TTL and minimum: how long "no" is good for (RFC 2308).
std::optional<std::uint32_t> negative_ttl(const Message& message, const ns_rr& record) {
  const std::uint8_t* const begin = ns_rr_rdata(record);
  const std::uint8_t* const end = begin + ns_rr_rdlen(record);
  const auto server = message.name_size(begin, end);
  if (!server) return std::nullopt;
  const auto person = message.name_size(begin + *server, end);
  if (!person || *server + *person + kSoaFixed != ns_rr_rdlen(record)) return std::nullopt;
  const std::uint32_t minimum = static_cast<std::uint32_t>(ns_get32(end - 4));
  return std::min<std::uint32_t>(static_cast<std::uint32_t>(ns_rr_ttl(record)), minimum);
}

std::string_view rcode_name(int rcode) {
  switch (rcode) {
    case ns_r_formerr:
      return "FORMERR";
    case ns_r_servfail:
      return "SERVFAIL";
    case ns_r_notimpl:
      return "NOTIMP";
    case ns_r_refused:
      return "REFUSED";
    default:
      return "an error";
  }
}

}  // namespace

std::string_view to_string(DnsType type) {
  switch (type) {
    case DnsType::kA:
      return "A";
    case DnsType::kAaaa:
      return "AAAA";
    case DnsType::kSrv:
      return "SRV";
  }
  return "?";
}

base::Result<DnsAnswer> parse_dns_answer(std::span<const std::uint8_t> message, const DnsQuestion& question) {
  auto parsed = Message::open(message);
  if (!parsed) return damaged(question, "it is damaged");
  if (parsed->flag(ns_f_qr) == 0) return damaged(question, "it is no answer");
  if (parsed->flag(ns_f_tc) != 0) return damaged(question, "it is truncated");
  const int rcode = parsed->flag(ns_f_rcode);
  if (rcode != ns_r_noerror && rcode != ns_r_nxdomain) {
    return base::fail(
        base::ErrorKind::kUnavailable,
        fmt::format("ask for {} {}: the resolver says {}", question.name, to_string(question.type), rcode_name(rcode)),
        "what was known stays in use");
  }

  struct Owned {
    std::string owner;
    DnsRecord record;
    std::uint32_t ttl_s;
  };
  std::vector<Owned> records;
  struct Alias {
    std::string owner;
    std::string target;
    std::uint32_t ttl_s;
  };
  std::vector<Alias> aliases;
  const bool whole = parsed->each(ns_s_an, [&](const ns_rr& record) {
    const auto ttl = static_cast<std::uint32_t>(ns_rr_ttl(record));
    if (ns_rr_type(record) == ns_t_cname) {
      auto target = parsed->name_at(ns_rr_rdata(record));
      if (!target) return false;
      aliases.push_back({normal_name(ns_rr_name(record)), std::move(*target), ttl});
    } else if (ns_rr_type(record) == static_cast<ns_type>(question.type)) {
      auto one = record_of(*parsed, record);
      if (!one) return false;
      records.push_back({normal_name(ns_rr_name(record)), std::move(*one), ttl});
    }
    return records.size() + aliases.size() <= kMaxDnsRecords;
  });
  if (!whole) return damaged(question, "a record is damaged, or there are too many");

  DnsAnswer answer;
  std::optional<std::uint32_t> ttl;
  const auto use_ttl = [&](std::uint32_t one) { ttl = std::min(ttl.value_or(one), one); };
  std::string owner = question.name;
  for (unsigned depth = 0;; ++depth) {
    const auto alias = std::ranges::find(aliases, owner, &Alias::owner);
    if (alias == aliases.end()) break;
    if (depth == kMaxCnames) return damaged(question, fmt::format("more than {} CNAMEs in a row", kMaxCnames));
    use_ttl(alias->ttl_s);
    owner = alias->target;
  }
  for (Owned& one : records) {
    if (one.owner != owner) continue;
    use_ttl(one.ttl_s);
    answer.records.push_back(std::move(one.record));
  }
  if (answer.records.empty()) {
    const bool good = parsed->each(ns_s_ns, [&](const ns_rr& record) {
      if (ns_rr_type(record) != ns_t_soa) return true;
      const auto one = negative_ttl(*parsed, record);
      if (one) use_ttl(*one);
      return one.has_value();
    });
    if (!good) return damaged(question, "its authority section is damaged");
  }
  answer.ttl_s = ttl.value_or(0);
  if (question.type != DnsType::kSrv) return answer;

  // What came along for targets is used as if it had been asked for; damage there costs only that.
  std::set<std::string> targets;
  for (const DnsRecord& record : answer.records) targets.insert(record.target);
  (void)parsed->each(ns_s_ar, [&](const ns_rr& record) {
    const auto ip = address_of(record);
    std::string name = normal_name(ns_rr_name(record));
    if (!ip || !targets.contains(name)) return true;
    DnsRecord one;
    one.ip = *ip;
    answer.additional.push_back({{std::move(name), static_cast<DnsType>(ns_rr_type(record))},
                                 std::move(one),
                                 static_cast<std::uint32_t>(ns_rr_ttl(record))});
    return answer.additional.size() < kMaxDnsRecords;
  });
  return answer;
}

}  // namespace mesh::discovery
