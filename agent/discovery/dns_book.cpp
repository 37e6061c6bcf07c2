// SPDX-License-Identifier: Apache-2.0
#include "discovery/dns_book.hpp"

#include <algorithm>
#include <utility>

namespace mesh::discovery {
namespace {

constexpr std::uint32_t kWeightScale = 100;  ///< So that weight 0 beside others is small and not nothing.
constexpr std::uint32_t kWeightMax = 65535;
constexpr unsigned kTierMax = 255;

/// By what SRV weights are multiplied: room for a zero beside others, where there is room.
std::uint32_t scale_of(const std::vector<DnsRecord>& records) {
  const auto largest = std::ranges::max(records, {}, &DnsRecord::weight).weight;
  return std::max(1U, std::min<std::uint32_t>(kWeightScale, kWeightMax / std::max<std::uint32_t>(largest, 1)));
}

}  // namespace

DnsBook::DnsBook(DnsSettings settings, ServicePolicy policy, std::vector<model::ServicePtr> known, std::uint64_t seed)
    : settings_(std::move(settings)), policy_(std::move(policy)), known_(std::move(known)), random_(seed) {
  update_questions();
}

std::vector<DnsType> DnsBook::address_types(const DnsService& service) {
  switch (service.family) {
    case DnsFamily::kV4:
      return {DnsType::kA};
    case DnsFamily::kV6:
      return {DnsType::kAaaa};
    case DnsFamily::kBoth:
      return {DnsType::kA, DnsType::kAaaa};
  }
  return {};
}

const DnsBook::Known* DnsBook::find(const DnsQuestion& question) const {
  const auto found = questions_.find(question);
  return found == questions_.end() ? nullptr : &found->second;
}

/// The questions that the services and the SRV records of now ask; the others are forgotten.
void DnsBook::update_questions() {
  std::set<DnsQuestion> wanted;
  for (const DnsService& service : settings_.services) {
    const auto types = address_types(service);
    if (!service.host.empty()) {
      for (const DnsType type : types) wanted.insert({service.host, type});
      continue;
    }
    const DnsQuestion srv{service.srv, DnsType::kSrv};
    wanted.insert(srv);
    const Known* const known = find(srv);
    if (known == nullptr) continue;
    for (const DnsRecord& record : known->records) {
      for (const DnsType type : types) {
        if (!record.target.empty()) wanted.insert({record.target, type});
      }
    }
  }
  std::erase_if(questions_, [&](const auto& entry) { return !wanted.contains(entry.first); });
  for (const DnsQuestion& question : wanted) questions_.try_emplace(question);
}

std::vector<DnsQuestion> DnsBook::take_due(base::TimePoint now, std::size_t limit) {
  std::vector<DnsQuestion> due;
  for (auto& [question, known] : questions_) {
    if (due.size() == limit) break;
    if (known.asked || known.due > now) continue;
    known.asked = true;
    due.push_back(question);
  }
  return due;
}

base::TimePoint DnsBook::next_due() const {
  base::TimePoint next = base::TimePoint::max();
  for (const auto& [question, known] : questions_) {
    if (!known.asked) next = std::min(next, known.due);
  }
  return next;
}

base::Duration DnsBook::jittered(base::Duration time) {
  return std::chrono::duration_cast<base::Duration>(time * (0.9 + 0.2 * random_.uniform()));
}

void DnsBook::hold(Known& known, std::uint32_t ttl_s, base::TimePoint now) {
  const auto ttl =
      std::clamp<std::chrono::seconds>(std::chrono::seconds(ttl_s), settings_.ttl_floor, settings_.ttl_cap);
  known.due = now + jittered(ttl);
}

void DnsBook::answer(const DnsQuestion& question, const DnsAnswer& answer, base::TimePoint now) {
  const auto found = questions_.find(question);
  if (found == questions_.end()) return;  // nobody asks it any more
  Known& known = found->second;
  const bool first = !known.tried;
  known.asked = false;
  known.tried = true;
  known.failures = 0;
  hold(known, answer.ttl_s, now);
  if (answer.records.empty()) {
    ++known.negatives;
    const bool confirmed = known.records.empty() || known.negatives >= settings_.negative_confirmations;
    if (!confirmed) {
      known.due = now + jittered(settings_.ttl_floor);
      return;
    }
  } else {
    known.negatives = 0;
  }
  std::vector<DnsRecord> records = answer.records;
  std::ranges::sort(records, [](const DnsRecord& a, const DnsRecord& b) {
    return std::tie(a.priority, a.target, a.ip, a.port, a.weight) <
           std::tie(b.priority, b.target, b.ip, b.port, b.weight);
  });
  changed_ = changed_ || first || !known.answered || known.records != records;
  known.answered = true;
  known.records = std::move(records);
  if (question.type != DnsType::kSrv) return;

  update_questions();
  std::map<DnsQuestion, DnsAnswer> along;
  for (const DnsAnswer::Additional& additional : answer.additional) {
    const auto [entry, added] = along.try_emplace(additional.question);
    entry->second.records.push_back(additional.record);
    entry->second.ttl_s = added ? additional.ttl_s : std::min(entry->second.ttl_s, additional.ttl_s);
  }
  for (const auto& [target, addresses] : along) {
    const Known* const one = find(target);
    // What is being asked is answered in a moment; what is fresh needs no help.
    if (one != nullptr && !one->asked && one->due <= now) this->answer(target, addresses, now);
  }
}

void DnsBook::fail(const DnsQuestion& question, base::TimePoint now) {
  const auto found = questions_.find(question);
  if (found == questions_.end()) return;
  Known& known = found->second;
  changed_ = changed_ || !known.tried;
  known.asked = false;
  known.tried = true;
  const base::Duration wait = settings_.ttl_floor * (1U << std::min(known.failures, 6U));
  ++known.failures;
  known.due = now + jittered(std::min<base::Duration>(wait, std::max<base::Duration>(kRetryCap, settings_.ttl_floor)));
}

void DnsBook::forget_asked() {
  for (auto& [question, known] : questions_) known.asked = false;
}

void DnsBook::ask_all_again(base::TimePoint now) {
  for (auto& [question, known] : questions_) known.due = std::min(known.due, now);
}

bool DnsBook::complete() const {
  return std::ranges::all_of(questions_, [](const auto& entry) { return entry.second.tried; });
}

bool DnsBook::answered() const {
  return std::ranges::any_of(questions_, [](const auto& entry) { return entry.second.answered; });
}

std::size_t DnsBook::failing() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(questions_, [](const auto& entry) { return entry.second.failures > 0; }));
}

void DnsBook::add_addresses(const std::string& host, DnsType type, const model::Endpoint& like,
                            model::Service& service) const {
  const Known* const known = find({host, type});
  if (known == nullptr || known->records.empty()) return;
  // The weight is the target's: its addresses share it.
  const auto count = static_cast<std::uint32_t>(known->records.size());
  for (const DnsRecord& record : known->records) {
    model::Endpoint& endpoint = service.endpoints.emplace_back(like);
    endpoint.address.ip = record.ip;
    endpoint.weight = static_cast<std::uint16_t>(std::max(1U, like.weight / count));
  }
}

bool DnsBook::fill_from_srv(const std::vector<DnsRecord>& records, DnsType type, model::Service& service) const {
  if (records.empty()) return true;
  const std::uint32_t scale = scale_of(records);
  unsigned tier = 0;
  std::uint16_t priority = records.front().priority;
  bool any_known = false;
  bool any_target = false;
  for (const DnsRecord& record : records) {  // by priority
    if (record.target.empty()) continue;     // ".": no service here
    any_target = true;
    const Known* const known = find({record.target, type});
    any_known = any_known || (known != nullptr && known->answered);
    if (std::exchange(priority, record.priority) != record.priority) tier = std::min(tier + 1, kTierMax);
    model::Endpoint like;
    like.address.port = record.port;
    like.weight = static_cast<std::uint16_t>(std::max(1U, record.weight * scale));
    like.tier = static_cast<std::uint8_t>(tier);
    add_addresses(record.target, type, like, service);
  }
  return any_known || !any_target;
}

/// False: nothing is known of it yet.
bool DnsBook::fill(const DnsService& spec, DnsType type, model::Service& service) const {
  if (!spec.srv.empty()) {
    const Known* const known = find({spec.srv, DnsType::kSrv});
    return known != nullptr && known->answered && fill_from_srv(known->records, type, service);
  }
  const Known* const known = find({spec.host, type});
  if (known == nullptr || !known->answered) return false;
  model::Endpoint like;
  like.address.port = static_cast<std::uint16_t>(spec.endpoint_port != 0 ? spec.endpoint_port : spec.port);
  like.weight = static_cast<std::uint16_t>(known->records.size());  // 1 each
  add_addresses(spec.host, type, like, service);
  return true;
}

std::vector<model::Service> DnsBook::services() {
  changed_ = false;
  std::vector<model::Service> services;
  for (const DnsService& spec : settings_.services) {
    for (const DnsType type : address_types(spec)) {
      model::Service service;
      service.name = spec.name;
      service.frontend.protocol = spec.protocol;
      service.frontend.address = spec.address;
      if (spec.address.port == 0) {
        service.frontend.address.port = static_cast<std::uint16_t>(spec.port);
        if (type == DnsType::kA) service.frontend.address.ip = *base::IpAddress::parse("0.0.0.0");
      }
      apply_policy(policy_, service);
      service.origin = spec.srv.empty() ? spec.host : spec.srv;
      if (!fill(spec, type, service)) {
        const bool v4 = type == DnsType::kA;
        const auto before = std::ranges::find_if(known_, [&](const model::ServicePtr& old) {
          return old->name == service.name && old->frontend.protocol == service.frontend.protocol &&
                 old->frontend.address.port == service.frontend.address.port && old->frontend.address.ip.is_v4() == v4;
        });
        if (before == known_.end()) continue;
        service.endpoints = (*before)->endpoints;
      }
      services.push_back(std::move(service));
    }
  }
  return services;
}

}  // namespace mesh::discovery
