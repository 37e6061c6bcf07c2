// SPDX-License-Identifier: Apache-2.0
#include "datapath/writer.hpp"

#include <algorithm>
#include <utility>

namespace mesh::datapath {

base::Result<std::unique_ptr<Writer>> Writer::open(MapStore& store, std::shared_ptr<Grace> grace, NamedBackends named) {
  std::unique_ptr<Writer> writer(new Writer(store, std::move(grace), std::move(named)));
  MESH_CHECK(writer->recover());
  return writer;
}

Writer::Writer(MapStore& store, std::shared_ptr<Grace> grace, NamedBackends named)
    : store_(store), grace_(std::move(grace)), named_(std::move(named)) {}

base::Result<void> Writer::recover() {
  quarantine_.reset();  // its tokens are of the old compiler
  stale_ = true;
  // What the last writer freed may still be read; recover() counts it as free.
  MESH_CHECK(grace_->wait());
  compiler_ = MESH_TRY(Compiler::recover(store_));
  quarantine_ = std::make_unique<Quarantine>(grace_, named_);
  sealed_ = 0;
  released_ = 0;
  stale_ = false;
  request_grace();
  return {};
}

base::Result<ApplyResult> Writer::apply(const model::RoutingTablePtr& next) {
  const base::TimePoint begin = base::steady_now();
  ApplyResult result;
  result.generation = next->generation;
  if (stale_) MESH_CHECK(recover());
  result.released = MESH_TRY(release(quarantine_->take()));
  base::Result<void> done = apply_whole(next, result);
  if (!done && done.error().kind == base::ErrorKind::kExhausted && !stale_) {
    result.released += MESH_TRY(settle());
    done = apply_whole(next, result);
    if (!done && done.error().kind == base::ErrorKind::kExhausted && !stale_ && compiler_->fits(*next)) {
      done = apply_in_steps(next, result);
    }
  }
  if (!done) return std::unexpected(std::move(done).error());
  result.duration = base::steady_now() - begin;
  return result;
}

base::Result<void> Writer::apply_whole(const model::RoutingTablePtr& next, ApplyResult& result) {
  const Plan plan = MESH_TRY(compiler_->compile(next));
  MESH_CHECK(carry_out(plan));
  request_grace();
  result.ops += plan.size();
  result.changes.added += plan.changes.added;
  result.changes.updated += plan.changes.updated;
  result.changes.removed += plan.changes.removed;
  return {};
}

base::Result<void> Writer::apply_in_steps(const model::RoutingTablePtr& next, ApplyResult& result) {
  // What is in force for each service of `next`; null: nothing yet.
  std::vector<model::ServiceRoutePtr> in_force(next->services.size());
  const auto& old = compiler_->in_force()->services;
  auto candidate = old.begin();
  for (std::size_t i = 0; i < in_force.size(); ++i) {
    const model::Frontend& frontend = next->services[i]->service->frontend;
    while (candidate != old.end() && (*candidate)->service->frontend < frontend) ++candidate;
    if (candidate != old.end() && (*candidate)->service->frontend == frontend) in_force[i] = *candidate;
  }
  const auto table_of = [&](const std::vector<model::ServiceRoutePtr>& services) {
    auto table = std::make_shared<model::RoutingTable>();
    table->generation = next->generation;
    std::copy_if(services.begin(), services.end(), std::back_inserter(table->services),
                 [](const model::ServiceRoutePtr& route) { return route != nullptr; });
    return table;
  };

  MESH_CHECK(apply_whole(table_of(in_force), result));  // removals only: takes no room
  ++result.steps;
  std::size_t chunk = next->services.size();
  std::size_t first = 0;  // services before it are as in `next`
  while (first < in_force.size()) {
    std::vector<model::ServiceRoutePtr> services = in_force;
    std::size_t end = first;
    for (std::size_t changed = 0; end < services.size() && changed < chunk; ++end) {
      changed += services[end] != next->services[end];
      services[end] = next->services[end];
    }
    result.released += MESH_TRY(settle());
    const base::Result<void> done = apply_whole(table_of(services), result);
    ++result.steps;
    if (done) {
      in_force = std::move(services);
      first = end;
    } else if (done.error().kind != base::ErrorKind::kExhausted || stale_ || chunk == 1) {
      return done;
    } else {
      chunk = std::max<std::size_t>(chunk / 2, 1);
    }
  }
  // The steps were tables of their own; from here on unchanged services are known by the caller's pointer again.
  return apply_whole(next, result);
}

base::Result<void> Writer::carry_out(const Plan& plan) {
  base::Result<void> done = datapath::apply(plan, store_);
  if (!done) stale_ = true;
  return done;
}

void Writer::request_grace() {
  const std::uint32_t token = compiler_->seal();
  if (token == 0) return;
  sealed_ = token;
  quarantine_->request(token, Quarantine::Sockets::kIgnore);
}

base::Result<std::size_t> Writer::release(std::optional<base::Result<Quarantine::Passed>> outcome) {
  if (!outcome) return 0;
  if (!*outcome) {
    release_error_ = std::move(*outcome).error();
    return 0;
  }
  release_error_.reset();
  released_ = (*outcome)->token;
  const std::optional<std::unordered_set<std::uint32_t>>& named = (*outcome)->named;
  const Plan plan = compiler_->release(released_, named ? &*named : nullptr);
  MESH_CHECK(carry_out(plan));
  return plan.size();
}

base::Result<std::size_t> Writer::settle() {
  if (released_ == sealed_ && compiler_->waiting_for_sockets() == 0) return 0;
  quarantine_->request(sealed_, Quarantine::Sockets::kAsk);
  return release(quarantine_->wait(kSettleMax));
}

base::Result<std::size_t> Writer::tidy() {
  if (stale_) return 0;
  const std::size_t written = MESH_TRY(release(quarantine_->take()));
  if (release_error_ || compiler_->waiting_for_sockets() > 0) {
    quarantine_->request(sealed_, Quarantine::Sockets::kAsk);
  }
  return written;
}

base::Result<std::vector<std::string>> Writer::repair(std::size_t limit) {
  const model::RoutingTablePtr table = compiler_->table();
  if (!table) return std::vector<std::string>{};
  std::vector<std::string> lines = MESH_TRY(drift(store_, table)).describe(limit);
  if (lines.empty()) return lines;
  MESH_CHECK(recover());
  MESH_CHECK(apply(table));
  return lines;
}

base::Result<std::vector<std::string>> Writer::diff(const model::RoutingTablePtr& table) const {
  return MESH_TRY(drift(store_, table)).describe();
}

}  // namespace mesh::datapath
