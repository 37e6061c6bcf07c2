// SPDX-License-Identifier: Apache-2.0
#include "discovery/registry.hpp"

#include <time.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace mesh::discovery {
namespace {

base::Duration thread_time() {
  timespec used{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

}  // namespace

void PublishPace::begin() { begun_ = thread_time(); }

void PublishPace::end() { due_ = base::steady_now() + kRest * (thread_time() - begun_); }

std::vector<model::ServicePtr> share(std::vector<model::Service> services,
                                     const std::vector<model::ServicePtr>& before) {
  std::vector<model::ServicePtr> shared;
  shared.reserve(services.size());
  for (std::size_t i = 0; i < services.size(); ++i) {
    const bool known = i < before.size() && before[i]->origin == services[i].origin && before[i]->same_as(services[i]);
    shared.push_back(known ? before[i] : std::make_shared<const model::Service>(std::move(services[i])));
  }
  return shared;
}

bool stand_for(const std::vector<model::ServicePtr>& now, const std::vector<model::ServicePtr>& before) {
  return std::ranges::equal(now, before, [](const model::ServicePtr& a, const model::ServicePtr& b) {
    return a->frontend == b->frontend && a->name == b->name;
  });
}

}  // namespace mesh::discovery
