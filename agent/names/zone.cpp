// SPDX-License-Identifier: Apache-2.0
#include "names/zone.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace mesh::names {
namespace {

constexpr std::string_view kTcp = "_tcp";
constexpr std::string_view kUdp = "_udp";

bool is_below(std::string_view name, std::string_view domain) {
  return name.size() > domain.size() && name.ends_with(domain) && name[name.size() - domain.size() - 1] == '.';
}

std::string_view first_label(std::string_view name) { return name.substr(0, name.find('.')); }

std::string_view after_first_label(std::string_view name) {
  const std::size_t dot = name.find('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(dot + 1);
}

std::optional<std::uint16_t> number_in(std::string_view label) {
  std::uint16_t number = 0;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), number);
  return error == std::errc() && end == label.data() + label.size() ? std::optional(number) : std::nullopt;
}

bool wants(Type type, const base::IpAddress& address) {
  return type == Type::kAny || type == (address.is_v4() ? Type::kA : Type::kAaaa);
}

}  // namespace

std::string name_of(const std::string& service, const std::string& domain) {
  std::string name = domain;
  std::string_view rest = service;
  while (true) {
    const std::size_t slash = rest.find('/');
    name.insert(0, std::string(rest.substr(0, slash)) + ".");
    if (slash == std::string_view::npos) break;
    rest.remove_prefix(slash + 1);
  }
  return is_name(name) ? name : std::string();
}

std::string reverse_name(const base::IpAddress& address) {
  const auto& bytes = address.bytes;
  if (address.is_v4()) return fmt::format("{}.{}.{}.{}.in-addr.arpa", bytes[15], bytes[14], bytes[13], bytes[12]);
  std::string name;
  for (std::size_t i = bytes.size(); i-- > 0;) name += fmt::format("{:x}.{:x}.", bytes[i] & 15, bytes[i] >> 4);
  return name + "ip6.arpa";
}

bool same_names(const model::Snapshot& a, const model::Snapshot& b) {
  return std::ranges::equal(a.services, b.services, [](const model::ServicePtr& one, const model::ServicePtr& other) {
    return one == other ||
           (one->name == other->name && one->frontend == other->frontend && one->source == other->source);
  });
}

Zone::Zone(const model::Snapshot& snapshot, std::string domain, const std::vector<std::string>& hidden)
    : domain_(std::move(domain)) {
  for (const model::ServicePtr& service : snapshot.services) {
    if (std::ranges::find(hidden, service->source) != hidden.end()) continue;
    const std::string name = name_of(service->name, domain_);
    if (name.empty()) continue;
    Entry& entry = services_[name];
    const base::IpAddress& ip = service->frontend.address.ip;
    if (std::ranges::find(entry.addresses, ip) == entry.addresses.end()) {
      entry.addresses.push_back(ip);
      reverse_.emplace(reverse_name(ip), name);
    }
    const Port port{service->frontend.protocol, service->frontend.address.port};
    const bool known = std::ranges::any_of(
        entry.ports, [&](const Port& one) { return one.protocol == port.protocol && one.port == port.port; });
    if (!known) entry.ports.push_back(port);
    for (std::string_view above = after_first_label(name); above.size() > domain_.size();
         above = after_first_label(above)) {
      ++inner_[std::string(above)];
    }
  }
  for (auto& [name, entry] : services_) {
    std::ranges::sort(entry.addresses, [](const base::IpAddress& a, const base::IpAddress& b) {
      return std::pair(!a.is_v4(), a) < std::pair(!b.is_v4(), b);
    });
  }
}

bool Zone::covers(const std::string& name) const { return name == domain_ || is_below(name, domain_); }

Answer Zone::negative(Rcode rcode) const {
  Answer answer{.rcode = rcode, .answers = {}, .authority = {}, .additional = {}};
  answer.authority.push_back({domain_, kNegativeTtlS, Soa{domain_, kNegativeTtlS}});  // RFC 2308 section 3
  return answer;
}

std::optional<Answer> Zone::answer(const std::string& name, Type type) const {
  if (const auto found = reverse_.find(name); found != reverse_.end()) {
    if (type != Type::kPtr && type != Type::kAny) return negative(Rcode::kNoError);
    return Answer{Rcode::kNoError, {{name, kTtlS, found->second}}, {}, {}};
  }
  if (!covers(name)) return std::nullopt;
  if (const auto found = services_.find(name); found != services_.end()) {
    return answer_service(name, found->second, type);
  }
  if (auto answer = answer_port(name, type)) return answer;
  return negative(name == domain_ || inner_.contains(name) ? Rcode::kNoError : Rcode::kNameError);
}

Answer Zone::answer_service(const std::string& name, const Entry& entry, Type type) const {
  Answer answer;
  for (const base::IpAddress& address : entry.addresses) {
    if (wants(type, address)) answer.answers.push_back({name, kTtlS, address});
  }
  if (type == Type::kSrv || type == Type::kAny) {
    for (const Port& port : entry.ports) answer.answers.push_back({name, kTtlS, Srv{port.port, name}});
    if (type == Type::kSrv) add_addresses(name, entry, answer.additional);
  }
  return answer.answers.empty() ? negative(Rcode::kNoError) : answer;
}

/// `_80._tcp.orders.mesh` and `_http._tcp.orders.mesh` (RFC 2782).
std::optional<Answer> Zone::answer_port(const std::string& name, Type type) const {
  const std::string_view word = first_label(name);
  const std::string_view protocol_label = first_label(after_first_label(name));
  if (!word.starts_with('_') || (protocol_label != kTcp && protocol_label != kUdp)) return std::nullopt;
  const std::string service(after_first_label(after_first_label(name)));
  const auto found = services_.find(service);
  if (found == services_.end()) return std::nullopt;
  const auto protocol = protocol_label == kTcp ? model::Protocol::kTcp : model::Protocol::kUdp;
  std::vector<std::uint16_t> ports;
  for (const Port& port : found->second.ports) {
    if (port.protocol == protocol) ports.push_back(port.port);
  }
  const auto wanted = number_in(word.substr(1));
  if (wanted) std::erase_if(ports, [&](std::uint16_t port) { return port != *wanted; });
  if (ports.size() != 1) return negative(Rcode::kNameError);
  if (type != Type::kSrv && type != Type::kAny) return negative(Rcode::kNoError);
  Answer answer;
  answer.answers.push_back({name, kTtlS, Srv{ports.front(), service}});
  add_addresses(service, found->second, answer.additional);
  return answer;
}

void Zone::add_addresses(const std::string& name, const Entry& entry, std::vector<Record>& to) const {
  for (const base::IpAddress& address : entry.addresses) to.push_back({name, kTtlS, address});
}

}  // namespace mesh::names
