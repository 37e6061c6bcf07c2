// SPDX-License-Identifier: Apache-2.0
#include "app/reconciler.hpp"

#include <algorithm>
#include <iterator>

#include "base/log.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"reconciler"};

/// By frontend; null takes the entry away.
template <typename View, typename Changes>
void take_changes(View& view, Changes changes) {
  for (auto& [frontend, value] : changes) {
    if (value) {
      view[frontend] = std::move(value);
    } else {
      view.erase(frontend);
    }
  }
}

}  // namespace

Reconciler::Reconciler(Options options, datapath::Writer& writer, model::HealthView restored, Published published)
    : options_(std::move(options)),
      writer_(writer),
      published_(std::move(published)),
      sources_(options_.sources),
      health_(std::move(restored)),
      router_(options_.here),
      relay_ports_(options_.relay_ports) {}

Reconciler::~Reconciler() { stop(); }

void Reconciler::start() {
  audit_at_ = base::steady_now() + options_.audit_interval;
  tidy_at_ = base::steady_now() + options_.tidy_interval;
  thread_ = std::thread([this] { work(); });
}

void Reconciler::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

template <typename Put>
void Reconciler::put_input(const Put& put) {
  {
    const std::lock_guard lock(mutex_);
    if (inbox_.empty()) inbox_since_ = base::steady_now();
    put(inbox_);
  }
  wake_.notify_one();
}

void Reconciler::offer(const std::string& source, discovery::UpdatePtr update) {
  put_input([&](Inputs& inbox) { inbox.updates[source] = std::move(update); });
}

void Reconciler::set_sources(std::vector<Precedence> sources) {
  put_input([&](Inputs& inbox) { inbox.sources = std::move(sources); });
}

void Reconciler::offer(HealthChanges changes) {
  put_input([&](Inputs& inbox) { std::ranges::move(changes, std::back_inserter(inbox.health)); });
}

void Reconciler::offer(model::StandingChanges changes) {
  put_input([&](Inputs& inbox) { std::ranges::move(changes, std::back_inserter(inbox.standing)); });
}

void Reconciler::run(Job job) {
  {
    const std::lock_guard lock(mutex_);
    inbox_jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

ReconciledPtr Reconciler::latest() const {
  const std::lock_guard lock(mutex_);
  return latest_;
}

base::Duration Reconciler::behind(base::TimePoint now) const {
  const std::lock_guard lock(mutex_);
  if (behind_since_) return now - *behind_since_;
  return inbox_.empty() ? base::Duration{} : now - inbox_since_;
}

void Reconciler::caught_up() {
  const std::lock_guard lock(mutex_);
  behind_since_.reset();
}

void Reconciler::work() {
  while (true) {
    std::unique_lock lock(mutex_);
    const auto has_work = [this] { return stopping_ || !inbox_jobs_.empty() || !inbox_.empty(); };
    wake_.wait_until(lock, std::min({retry_at_, audit_at_, tidy_at_}), has_work);
    if (stopping_) return;
    input_since_ = inbox_since_;
    if (!inbox_.empty() && !behind_since_) behind_since_ = inbox_since_;
    Inputs inputs = std::exchange(inbox_, {});
    auto jobs = std::exchange(inbox_jobs_, {});
    lock.unlock();

    bool news = take_inputs(std::move(inputs));
    const base::TimePoint now = base::steady_now();
    if (now >= retry_at_) {
      apply();
      news = true;
    }
    if (now >= audit_at_) {
      audit();
      news = true;
    }
    if (now >= tidy_at_) {
      tidy_at_ = now + options_.tidy_interval;
      if (const auto tidied = writer_.tidy(); !tidied) kLog.warn("quarantine not tidied", {{"err", tidied.error()}});
    }
    if (!state_.error) caught_up();
    if (news) publish();
    for (Job& job : jobs) job(writer_, state_);
  }
}

/// Returns whether there is something to publish.
bool Reconciler::take_inputs(Inputs inputs) {
  if (inputs.empty()) return false;
  take_changes(health_, std::move(inputs.health));
  take_changes(standing_, std::move(inputs.standing));
  if (!inputs.updates.empty() || inputs.sources) {
    for (auto& [source, update] : inputs.updates) updates_[source] = std::move(update);
    if (inputs.sources) sources_ = std::move(*inputs.sources);
    if (!merge()) return false;
  }
  if (!state_.snapshot) return false;
  auto routing = router_.route(state_.snapshot, health_, standing_);
  const bool changed = routing != state_.routing;
  state_.routing = std::move(routing);
  state_.kernel = relay_ports_.stand_in(state_.routing);
  look_at_ports();
  if (changed) apply();
  return true;
}

void Reconciler::look_at_ports() {
  state_.without_relay_port = relay_ports_.without_port().size();
  if (state_.without_relay_port == 0) return;
  kLog.error("services with TLS are refused: there are more than the relay has ports for",
             {{"services", state_.without_relay_port},
              {"first", relay_ports_.without_port().front().to_string()},
              {"limit", kRelayPortsMax}});
}

/// False: a source has not spoken yet, and what the kernel has stays.
bool Reconciler::merge() {
  std::erase_if(updates_, [this](const auto& entry) {
    return std::ranges::find(sources_, entry.first, &Precedence::source) == sources_.end();
  });
  std::vector<discovery::Ranked> ranked;
  for (const auto& [source, combine] : sources_) {
    const auto found = updates_.find(source);
    if (found != updates_.end()) {
      ranked.push_back({found->second, combine});
    } else if (merges_ == 0) {
      return false;
    }
  }
  state_.snapshot = merger_.merge(ranked, ++merges_);
  if (merges_ == 1) forget_unprobed();
  return true;
}

/// What was restored of services that are not probed any more would stand for ever.
void Reconciler::forget_unprobed() {
  std::erase_if(health_, [this](const auto& entry) {
    const model::ServicePtr* service = state_.snapshot->find(entry.first);
    return service == nullptr || (*service)->probe == nullptr;
  });
}

void Reconciler::publish() {
  auto published = std::make_shared<const Reconciled>(state_);
  {
    const std::lock_guard lock(mutex_);
    latest_ = published;
  }
  published_(std::move(published));
}

void Reconciler::apply() {
  const base::TimePoint begin = base::steady_now();
  const auto result = writer_.apply(state_.kernel);
  ++state_.applies;
  const base::TimePoint end = base::steady_now();
  state_.apply_duration = end - begin;
  state_.usage = writer_.usage();
  if (result) {
    if (state_.error) kLog.info("tables applied again");
    state_.error.reset();
    state_.apply_durations.observe(end - begin);
    if (retry_at_ == base::TimePoint::max()) state_.change_latencies.observe(end - input_since_);
    state_.kernel_generation = state_.routing->generation;
    state_.applied_at = base::wall_now();
    retry_at_ = base::TimePoint::max();
    return;
  }
  ++state_.failures;
  kLog.error("tables not applied; the last good ones stay in force", {{"err", result.error()}});
  state_.error = result.error();
  retry_at_ = base::steady_now() + options_.retry;
}

void Reconciler::audit() {
  audit_at_ = base::steady_now() + options_.audit_interval;
  if (state_.error || !state_.routing) return;  // the difference is known: it is what could not be applied
  const auto repaired = writer_.repair();
  ++state_.audits;
  const bool knew = state_.audit_error.has_value();
  state_.audit_error.reset();
  if (!repaired) {
    state_.audit_error = repaired.error();
    if (!knew) kLog.error("kernel tables not compared with what was applied", {{"err", repaired.error()}});
    return;
  }
  state_.audited_at = base::wall_now();
  if (repaired->empty()) return;
  state_.drift_repaired += repaired->size();
  state_.drift_at = state_.audited_at;
  state_.drift_last = repaired->front();
  kLog.warn("kernel tables differed from what was applied and were repaired",
            {{"differences", repaired->size()}, {"first", repaired->front()}});
}

}  // namespace mesh::app
