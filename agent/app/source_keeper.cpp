// SPDX-License-Identifier: Apache-2.0
#include "app/source_keeper.hpp"

#include <algorithm>
#include <set>
#include <utility>

#include "base/log.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"source"};

}  // namespace

SourceKeeper::SourceKeeper(Options options, discovery::VipPool& addresses, discovery::Restored restored)
    : options_(std::move(options)), addresses_(addresses), restored_(std::move(restored)) {}

SourceKeeper::~SourceKeeper() { stop(); }

std::vector<Reconciler::Precedence> SourceKeeper::precedence(const std::vector<discovery::SourceSpec>& sources) const {
  std::vector<Reconciler::Precedence> all = options_.before;
  for (const auto& source : sources) all.push_back({source.name, source.combine});
  all.insert(all.end(), options_.after.begin(), options_.after.end());
  return all;
}

std::unique_ptr<discovery::Registry> SourceKeeper::make_client(const discovery::SourceSpec& spec,
                                                               std::vector<model::ServicePtr> known) const {
  const std::uint64_t seed =
      base::hash64({reinterpret_cast<const std::uint8_t*>(spec.name.data()), spec.name.size()}, options_.seed);
  return spec.kind->make(spec.settings.get(), {spec.name, spec.policy, options_.here, std::move(known), seed});
}

std::shared_ptr<discovery::RegistrySource> SourceKeeper::make(const discovery::SourceSpec& spec) const {
  discovery::RegistrySource::Options options;
  options.book.name = spec.name;
  options.book.type = spec.type;
  options.book.max_stale = spec.max_stale;
  options.book.min_endpoints = spec.min_endpoints;
  options.book.first_answer_wait = options_.first_answer_wait;
  options.book.give_address = [this](const std::string& name, bool v4) { return addresses_.assign(name, v4); };
  options.keep_addresses = [this] { return addresses_.keep(); };
  options.seed = base::mix64(options_.seed + spec.name.size());
  options.restored.saved_at = restored_.saved_at;
  for (const model::ServicePtr& service : restored_.services) {
    if (service->source == spec.name) options.restored.services.push_back(service);
  }
  auto client = make_client(spec, options.restored.services);
  return std::make_shared<discovery::RegistrySource>(std::move(client), std::move(options));
}

void SourceKeeper::configure(const std::vector<discovery::SourceSpec>& sources, Reconciler& reconciler) {
  const std::lock_guard lock(mutex_);
  std::set<std::string> named;
  for (const auto& spec : sources) named.insert(spec.name);
  for (auto entry = running_.begin(); entry != running_.end();) {
    if (named.contains(entry->first)) {
      ++entry;
      continue;
    }
    kLog.info("source removed", {{"source", entry->first}});
    entry->second.source->ask_to_stop();
    ending_.push_back(std::move(entry->second.source));
    entry = running_.erase(entry);
  }
  reconciler.set_sources(precedence(sources));
  for (const auto& spec : sources) {
    std::string fingerprint = spec.fingerprint();
    Running& running = running_[spec.name];
    if (running.source && running.fingerprint == fingerprint) continue;
    if (running.source && running.source->status().type == spec.type) {
      kLog.info("source changed", {{"source", spec.name}});
      running.source->reconfigure(make_client(spec, running.source->services()), spec.max_stale, spec.min_endpoints);
    } else {
      if (running.source) {
        running.source->ask_to_stop();
        ending_.push_back(std::move(running.source));
      }
      running.source = make(spec);
      running.source->start(
          [&reconciler, name = spec.name](discovery::UpdatePtr update) { reconciler.offer(name, std::move(update)); });
    }
    running.fingerprint = std::move(fingerprint);
  }
}

void SourceKeeper::look() {
  std::vector<std::shared_ptr<discovery::RegistrySource>> ending;
  std::vector<std::shared_ptr<discovery::RegistrySource>> sources;
  {
    const std::lock_guard lock(mutex_);
    ending = std::exchange(ending_, {});
    for (const auto& [name, running] : running_) sources.push_back(running.source);
  }
  for (const auto& source : sources) source->look();
  for (const auto& source : ending) source->stop();
}

std::vector<model::SourceStatus> SourceKeeper::statuses() const {
  const std::lock_guard lock(mutex_);
  std::vector<model::SourceStatus> statuses;
  for (const auto& [name, running] : running_) statuses.push_back(running.source->status());
  return statuses;
}

/// All are asked before any is waited for.
void SourceKeeper::stop() {
  std::vector<std::shared_ptr<discovery::RegistrySource>> all;
  {
    const std::lock_guard lock(mutex_);
    all = std::exchange(ending_, {});
    for (auto& [name, running] : running_) all.push_back(std::move(running.source));
    running_.clear();
  }
  for (const auto& source : all) source->ask_to_stop();
  for (const auto& source : all) source->stop();
}

}  // namespace mesh::app
