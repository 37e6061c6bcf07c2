// SPDX-License-Identifier: Apache-2.0
#include "observe/ledger.hpp"

#include <algorithm>
#include <functional>

namespace mesh::observe {
namespace {

/// What `now` has more than `before`; all of it if it went backwards, which is a new start.
std::uint64_t more(std::uint64_t now, std::uint64_t before) { return now >= before ? now - before : now; }

}  // namespace

std::size_t Ledger::Hash::operator()(const Service& service) const {
  constexpr std::size_t kPrime = 1000003;
  return (std::hash<std::string>{}(service.name) * kPrime + service.port) * kPrime +
         static_cast<std::size_t>(service.protocol);
}

void Ledger::add(const Service* service, const model::Frontend& frontend, std::uint32_t backend_id,
                 std::uint32_t generation, const mesh_backend_live& live, const mesh_backend_outcomes& outcomes) {
  if (live.opened == 0) return;  // costs no memory
  BackendSeen& seen = backends_[backend_id];
  if (seen.generation != generation) seen = {.generation = generation};
  const auto grow = [&](Experience& total) {
    total.established += more(live.established, seen.established);
    total.failed += more(live.failed, seen.failed);
    for (std::size_t i = 0; i < MESH_OUTCOMES; ++i) total.ended[i] += more(outcomes.ended[i], seen.outcomes.ended[i]);
    total.bytes_out += more(outcomes.bytes_out, seen.outcomes.bytes_out);
    total.bytes_in += more(outcomes.bytes_in, seen.outcomes.bytes_in);
    total.retransmits += more(outcomes.retransmits, seen.outcomes.retransmits);
    total.srtt_us += more(outcomes.srtt_us, seen.outcomes.srtt_us);
    total.connect_us += more(outcomes.connect_us, seen.outcomes.connect_us);
  };
  if (service != nullptr) grow(sum_of(*service));
  meet(frontend);
  grow(by_frontend_[frontend].experience);
  seen.round = round_;
  seen.established = live.established;
  seen.failed = live.failed;
  seen.outcomes = outcomes;
}

void Ledger::add(const Service* service, std::uint32_t service_id, const mesh_service_latency& latency) {
  const auto known = latencies_.find(service_id);
  if (known == latencies_.end() && std::ranges::all_of(latency.buckets, [](std::uint64_t n) { return n == 0; })) return;
  mesh_service_latency& seen = known == latencies_.end() ? latencies_[service_id] : known->second;
  if (service != nullptr) {
    Experience& total = sum_of(*service);
    for (std::size_t i = 0; i < MESH_LATENCY_BUCKETS; ++i) {
      total.latency[i] += more(latency.buckets[i], seen.buckets[i]);
    }
  }
  seen = latency;
}

Experience& Ledger::sum_of(const Service& service) {
  Sum& sum = sums_[service];
  sum.round = round_;
  return sum.experience;
}

void Ledger::end() {
  const auto gone = [this](const auto& entry) { return entry.second.round != round_; };
  std::erase_if(sums_, gone);
  std::erase_if(by_frontend_, gone);
  std::erase_if(backends_, gone);
}

namespace {

const Experience& find(const auto& sums, const auto& key) {
  static const Experience kNothing;
  const auto found = sums.find(key);
  return found == sums.end() ? kNothing : found->second.experience;
}

}  // namespace

const Experience& Ledger::of(const Service& service) const { return find(sums_, service); }
const Experience& Ledger::of(const model::Frontend& frontend) const { return find(by_frontend_, frontend); }

}  // namespace mesh::observe
