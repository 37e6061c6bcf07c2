// SPDX-License-Identifier: Apache-2.0
#include "health/engine.hpp"

#include <algorithm>

#include "base/random.hpp"

namespace mesh::health {
namespace {

using namespace std::chrono_literals;

constexpr base::Duration kRound = 4ms;        ///< Least time between two rounds of probes.
constexpr base::Duration kBurst = 20ms;       ///< How much unused rate may be saved up.
constexpr base::Duration kLateAfter = 100ms;  ///< A probe that begins so much after it was due counts as late.
constexpr base::Duration kPublishGap = 10ms;  ///< Least time between two batches.
constexpr base::Duration kApplyBudget = 2ms;  ///< Of one step, for taking over a snapshot.
constexpr std::size_t kApplyStride = 16;      ///< Services between two looks at the clock.

}  // namespace

void Target::on_due(base::TimePoint now) { engine.begin(*this, now); }

std::size_t Engine::TargetKeyHash::operator()(const TargetKey& key) const noexcept {
  return base::mix64(std::hash<base::SocketAddress>{}(key.address) ^ reinterpret_cast<std::uintptr_t>(key.policy));
}

std::size_t Engine::PolicyHash::operator()(const std::shared_ptr<const model::ProbePolicy>& policy) const noexcept {
  const std::hash<std::string> text;
  const auto times = static_cast<std::uint64_t>(policy->interval.count() * 1000003 + policy->timeout.count());
  return base::mix64(times ^ text(policy->path) ^ base::mix64(text(policy->host) ^ text(policy->grpc_service)) ^
                     (static_cast<std::uint64_t>(policy->type) << 17) ^ policy->port);
}

Engine::Engine(io::Loop& loop, Options options, ProbeCells& cells, Publish publish)
    : loop_(loop),
      options_(std::move(options)),
      cells_(cells),
      publish_(std::move(publish)),
      exchanges_(options_.user_agent),
      refilled_(loop.now()) {}

Engine::~Engine() = default;

// ---- which endpoints

void Engine::set_services(model::SnapshotPtr snapshot) {
  snapshot_ = std::move(snapshot);
  applied_services_ = 0;
  ++epoch_;
  loop_.arm(apply_timer_, loop_.now());
}

void Engine::set_used(UsedServicesPtr used) {
  used_ = std::move(used);
  if (snapshot_ != nullptr) set_services(snapshot_);
}

/// Takes over services until the budget of this step is used up, then goes on in the next one: probes in flight and
/// their deadlines don't wait for 10,000 services.
void Engine::apply_some(base::TimePoint now) {
  const auto& services = snapshot_->services;
  const base::TimePoint until = base::steady_now() + kApplyBudget;
  while (applied_services_ < services.size()) {
    const std::size_t stop = std::min(applied_services_ + kApplyStride, services.size());
    while (applied_services_ < stop) adopt(services[applied_services_++]);
    if (applied_services_ < services.size() && base::steady_now() >= until) {
      loop_.arm(apply_timer_, now);
      return;
    }
  }
  if (watches_.size() != services.size()) {
    for (auto it = watches_.begin(); it != watches_.end();) {
      Watch& watch = it->second;
      if (watch.epoch == epoch_) {
        ++it;
        continue;
      }
      for (Target* target : watch.targets) release(*target, watch);
      if (watch.dirty) std::erase(dirty_, &watch);
      if (watch.probed) gone_.push_back(it->first);
      it = watches_.erase(it);
    }
    if (!gone_.empty()) loop_.arm(flush_timer_, std::max(loop_.now(), flushed_ + kPublishGap));
  }
  std::erase_if(policies_, [](const auto& policy) { return policy.use_count() == 1; });
}

void Engine::adopt(const model::ServicePtr& service) {
  Watch& watch = watches_[service->frontend];
  watch.epoch = epoch_;
  if (watch.service == service && watch.probed == wants_probes(*service)) return;
  watch.service = service;
  refresh_targets(watch);
}

bool Engine::wants_probes(const model::Service& service) const {
  if (service.probe == nullptr) return false;
  return service.probe->when == model::ProbeWhen::kAlways || (used_ && used_->contains(service.frontend));
}

void Engine::refresh_targets(Watch& watch) {
  // New ones first, so that a target that stays never loses its last watch.
  std::vector<Target*> old = std::move(watch.targets);
  watch.targets.clear();
  const bool was_probed = watch.probed;
  watch.probed = wants_probes(*watch.service);
  if (watch.probed) {
    const auto& policy = *policies_.insert(watch.service->probe).first;
    watch.targets.reserve(watch.service->endpoints.size());
    for (const model::Endpoint& endpoint : watch.service->endpoints) {
      base::SocketAddress address = endpoint.address;
      if (policy->port != 0) address.port = policy->port;
      watch.targets.push_back(&acquire(address, policy, watch));
    }
    restore_records(watch);
  }
  for (Target* target : old) release(*target, watch);
  if (watch.probed) {
    mark_dirty(watch);
  } else if (was_probed) {
    gone_.push_back(watch.service->frontend);
    loop_.arm(flush_timer_, std::max(loop_.now(), flushed_ + kPublishGap));
  }
}

Target& Engine::acquire(const base::SocketAddress& address, const std::shared_ptr<const model::ProbePolicy>& policy,
                        Watch& watch) {
  std::unique_ptr<Target>& slot = targets_[{address, policy.get()}];
  if (slot == nullptr) {
    slot = std::make_unique<Target>(*this, address, policy, endpoint_seed(options_.node_seed, address));
    cells_.targets = targets_.size();
    schedule(*slot, loop_.now());
  }
  slot->watches.push_back(&watch);
  return *slot;
}

void Engine::release(Target& target, Watch& watch) {
  target.watches.erase(std::ranges::find(target.watches, &watch));
  if (!target.watches.empty()) return;
  if (target.attempt != nullptr) target.attempt->forget();
  if (target.connection.valid()) {
    loop_.close(target.connection.release());
    --cells_.kept_connections;
  }
  targets_.erase({target.address, target.policy.get()});
  cells_.targets = targets_.size();
}

void Engine::restore(model::HealthView view) {
  restored_ = std::move(view);
  for (auto& [frontend, watch] : watches_) {
    if (!watch.probed) continue;
    restore_records(watch);
    mark_dirty(watch);
  }
}

void Engine::restore_records(Watch& watch) {
  const auto found = restored_.find(watch.service->frontend);
  if (found == restored_.end()) return;
  const model::ServiceHealthPtr health = std::move(found->second);
  restored_.erase(found);
  if (health == nullptr) return;
  for (std::size_t i = 0; i < watch.targets.size(); ++i) {
    Target& target = *watch.targets[i];
    const model::EndpointHealth* record = health->find(watch.service->endpoints[i].address);
    if (record == nullptr || target.fsm.record().checked_at != base::WallTime{}) continue;
    target.fsm = ProbeFsm::restored(*record);
  }
}

// ---- when

void Engine::schedule(Target& target, base::TimePoint due) {
  target.due = due;
  schedule_.arm(target.timer, due);
  plan_round();
}

void Engine::plan_round() {
  const auto next = schedule_.next();
  if (!next) return;
  const base::TimePoint round = std::max(*next, last_round_ + kRound);
  if (!round_timer_.armed() || round < round_timer_.deadline()) loop_.arm(round_timer_, round);
}

void Engine::on_round(base::TimePoint now) {
  const double rate = std::max(1U, options_.max_probes_per_second);
  const double burst = std::max(1.0, rate * std::chrono::duration<double>(kBurst).count());
  tokens_ = std::min(burst, tokens_ + rate * std::chrono::duration<double>(now - refilled_).count());
  refilled_ = now;
  last_round_ = now;
  while (tokens_ >= 1 && cells_.in_flight < options_.in_flight_max && schedule_.expire_one(now)) tokens_ -= 1;
  const auto next = schedule_.next();
  if (next && *next <= now) {
    held_at_ = now;
    const auto until_token = std::chrono::duration<double>(std::max(0.0, 1 - tokens_) / rate);
    loop_.arm(round_timer_, now + std::max(kRound, std::chrono::ceil<base::Duration>(until_token)));
  } else {
    plan_round();
  }
}

void Engine::begin(Target& target, base::TimePoint now) {
  const base::Duration lateness = now - target.due;
  if (lateness > kLateAfter) ++cells_.late;
  if (target.due <= held_at_) ++cells_.rate_limited;
  if (static_cast<std::uint64_t>(lateness.count()) > cells_.lateness_max_ns) {
    cells_.lateness_max_ns = static_cast<std::uint64_t>(lateness.count());
  }
  ++target.probes;
  ++cells_.in_flight;
  if (target.connection.valid()) {
    --cells_.kept_connections;
    if (target.fsm.in_transition()) loop_.close(target.connection.release());  // a doubtful endpoint is dialled anew
  }
  if (free_attempts_.empty()) {
    attempts_.push_back(std::make_unique<Attempt>(loop_, *this));
    free_attempts_.push_back(attempts_.back().get());
  }
  target.attempt = free_attempts_.back();
  free_attempts_.pop_back();
  target.attempt->start({.target = &target,
                         .address = target.address,
                         .timeout = target.policy->timeout,
                         .connection = std::move(target.connection)});
}

std::expected<std::unique_ptr<Exchange>, Outcome> Engine::make_exchange(const Target& target) {
  return exchanges_.make(*target.policy, target.address, loop_.now());
}

void Engine::on_outcome(Attempt& attempt, Target& target, Outcome outcome, base::Fd connection) {
  const base::TimePoint now = loop_.now();
  const model::ProbePolicy& policy = *target.policy;
  cells_.count(policy.type, outcome.reason, now - attempt.began());
  target.attempt = nullptr;
  if (connection.valid()) {
    if (cells_.kept_connections < options_.kept_connections_max) {
      target.connection = std::move(connection);
      ++cells_.kept_connections;
    } else {
      loop_.close(connection.release());
    }
  }
  const bool first = target.fsm.record().checked_at == base::WallTime{};
  const auto change = target.fsm.on_result(policy, outcome.reason, std::move(outcome.detail), base::wall_now());
  if (change == ProbeFsm::Change::kVerdict) ++cells_.transitions;
  if (change == ProbeFsm::Change::kVerdict || first) {
    for (Watch* watch : target.watches) mark_dirty(*watch);
  }
  const bool in_transition = target.fsm.in_transition();
  const base::Duration gap = target.probes == 1 && !in_transition
                                 ? first_spacing(policy, target.seed)
                                 : spacing(policy, in_transition, base::mix64(target.seed + target.probes));
  schedule(target, std::max(target.due + gap, now));
}

void Engine::on_free(Attempt& attempt) {
  --cells_.in_flight;
  free_attempts_.push_back(&attempt);
}

// ---- who is told

void Engine::mark_dirty(Watch& watch) {
  if (watch.dirty) return;
  watch.dirty = true;
  dirty_.push_back(&watch);
  if (!flush_timer_.armed()) loop_.arm(flush_timer_, std::max(loop_.now(), flushed_ + kPublishGap));
}

void Engine::flush(base::TimePoint now) {
  flushed_ = now;
  HealthBatch batch;
  batch.reserve(gone_.size() + dirty_.size());
  for (const model::Frontend& frontend : gone_) batch.emplace_back(frontend, nullptr);
  gone_.clear();
  for (Watch* watch : dirty_) {
    watch->dirty = false;
    if (watch->probed) batch.emplace_back(watch->service->frontend, build(*watch));
  }
  dirty_.clear();
  if (!batch.empty()) publish_(std::move(batch));
}

model::ServiceHealthPtr Engine::latest(const model::Frontend& frontend) const {
  const auto found = watches_.find(frontend);
  return found == watches_.end() || !found->second.probed ? nullptr : build(found->second);
}

model::ServiceHealthPtr Engine::build(const Watch& watch) {
  auto health = std::make_shared<model::ServiceHealth>();
  health->frontend = watch.service->frontend;
  health->endpoints.reserve(watch.targets.size());
  for (std::size_t i = 0; i < watch.targets.size(); ++i) {
    health->endpoints.push_back(watch.targets[i]->fsm.record());
    health->endpoints.back().address = watch.service->endpoints[i].address;
  }
  return health;
}

}  // namespace mesh::health
