// SPDX-License-Identifier: Apache-2.0
#include "tests/support/plan_world.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "balance/table.hpp"
#include "datapath/records.hpp"

namespace mesh::support {

std::string reader_text(const model::ServiceRoute& route) {
  if (route.routes.empty()) return "refused";
  const model::Service& service = *route.service;
  balance::Table choice;
  balance::build_table(route, choice);
  std::string text = fmt::format("algorithm {} key {} seed {} affinity {}:", static_cast<int>(service.algorithm),
                                 static_cast<int>(service.hash_key), datapath::seed_of(service.frontend),
                                 service.affinity_timeout.count());
  const auto address_at = [&](std::uint32_t index) {
    return service.endpoints[route.routes[index].endpoint].address.to_string();
  };
  for (std::uint32_t i = 0; i < choice.entries(); ++i) {
    text += ' ' + address_at(choice.picks[i]);
    if (!choice.thresholds.empty()) text += fmt::format("|{}@{}", address_at(choice.aliases[i]), choice.thresholds[i]);
  }
  return text;
}

PlanWorld::PlanWorld(std::uint64_t seed, const datapath::TableSizes& sizes)
    : random_(seed), changes_(seed + 1), store_(sizes) {
  store_.after_each_write([this] { read_after_write(); });
  auto compiler = datapath::Compiler::recover(store_);
  MESH_ASSERT(compiler.has_value());
  compiler_ = std::move(*compiler);
}

std::string PlanWorld::change(bool fault) { return apply(changes_.next(table_), fault); }

std::string PlanWorld::apply(const model::RoutingTablePtr& next, bool fault) {
  allowed_.clear();
  for (const model::RoutingTablePtr* side : {&std::as_const(table_), &next}) {
    for (const model::ServiceRoutePtr& route : (*side)->services) {
      allowed_[route->service->frontend].insert(reader_text(*route));
    }
  }
  for (auto& [frontend, texts] : allowed_) {
    const auto among = [&](const model::RoutingTablePtr& side) {
      for (const model::ServiceRoutePtr& route : side->services) {
        if (route->service->frontend == frontend) return true;
      }
      return false;
    };
    if (!among(table_) || !among(next)) texts.insert("not a service");
  }
  for (UnderWay& one : readers_) {
    const auto found = allowed_.find(one.frontend);
    if (found != allowed_.end()) one.allowed.insert(found->second.begin(), found->second.end());
  }

  const base::Result<datapath::Plan> plan = compiler_->compile(next);
  if (!plan) return "compile: " + plan.error().to_string();
  if (fault && !plan->empty()) {
    store_.fail(random_.below(plan->size()), random_.below(2) == 0 ? ENOSPC : EINTR, 1000000);
    const base::Result<void> done = datapath::apply(*plan, store_);
    store_.fail(0, 0, 0);
    if (done) return "a failed write was not reported";
    finish_readers();  // the writer waits for a grace period before it recovers
    auto recovered = datapath::Compiler::recover(store_);
    if (!recovered) return "recover: " + recovered.error().to_string();
    compiler_ = std::move(*recovered);
    const base::Result<datapath::Plan> rest = compiler_->compile(next);
    if (!rest) return "compile after a fault: " + rest.error().to_string();
    if (const auto done_now = datapath::apply(*rest, store_); !done_now) return done_now.error().to_string();
  } else {
    store_.fail(random_.below(20), EINTR, 1 + random_.below(3));
    const base::Result<void> done = datapath::apply(*plan, store_);
    store_.fail(0, 0, 0);
    if (!done) return "apply: " + done.error().to_string();
  }
  table_ = next;
  return complaint();
}

std::string PlanWorld::restart() {
  finish_readers();
  auto recovered = datapath::Compiler::recover(store_);
  if (!recovered) return "recover: " + recovered.error().to_string();
  compiler_ = std::move(*recovered);
  const base::Result<datapath::Plan> plan = compiler_->compile(table_);
  if (!plan) return "compile after a restart: " + plan.error().to_string();
  if (!plan->empty()) return "a restart without a change writes: " + plan->describe().front();
  return complaint();
}

std::string PlanWorld::pass_grace() {
  const std::uint32_t token = compiler_->seal();
  // Readers that began after the seal may go on, but they can't have found what was given up; ending all is the
  // shortest grace period there can be.
  finish_readers();
  const std::unordered_set<std::uint32_t> in_use = named();
  const datapath::Plan plan = compiler_->release(token, &in_use);
  if (const auto done = datapath::apply(plan, store_); !done) return done.error().to_string();
  return complaint();
}

void PlanWorld::turn_over_sockets() {
  if (!sockets_.empty() && random_.below(3) == 0) {
    sockets_.erase(sockets_.begin() + static_cast<std::ptrdiff_t>(random_.below(sockets_.size())));
  }
  const auto view = compiler_->ids();
  if (view->backend_ids.empty() || sockets_.size() >= 5) return;
  const std::uint32_t id = view->backend_ids[random_.below(view->backend_ids.size())];
  sockets_.push_back({id, store_.backend(id)});
}

std::unordered_set<std::uint32_t> PlanWorld::named() const {
  std::unordered_set<std::uint32_t> ids;
  for (const Socket& socket : sockets_) ids.insert(socket.backend_id);
  return ids;
}

void PlanWorld::read_after_write() {
  for (const auto& [frontend, texts] : allowed_) {
    const std::string text = FakeReader(store_, frontend).finish();
    ++reads_;
    if (!texts.contains(text)) complain(frontend.to_string() + ": a reader saw \"" + text + "\"");
    if (random_.below(8) > 0 || readers_.size() >= 50) continue;
    UnderWay one{FakeReader(store_, frontend), frontend, texts};
    for (std::uint64_t steps = 1 + random_.below(FakeReader::kSteps - 1); steps > 0 && !one.reader.done(); --steps) {
      one.reader.step();
    }
    readers_.push_back(std::move(one));
  }
  for (std::size_t i = 0; i < readers_.size();) {
    if (!readers_[i].reader.done() && random_.below(10) == 0) readers_[i].reader.step();
    if (!readers_[i].reader.done()) {
      ++i;
      continue;
    }
    std::swap(readers_[i], readers_.back());
    UnderWay ended = std::move(readers_.back());
    readers_.pop_back();
    const std::string text = ended.reader.finish();
    ++reads_;
    if (!ended.allowed.contains(text)) complain(ended.frontend.to_string() + ": a slow reader saw \"" + text + "\"");
  }
}

void PlanWorld::finish_readers() {
  for (UnderWay& one : readers_) {
    const std::string text = one.reader.finish();
    ++reads_;
    if (!one.allowed.contains(text)) complain(one.frontend.to_string() + ": a slow reader saw \"" + text + "\"");
  }
  readers_.clear();
}

void PlanWorld::complain(std::string what) {
  if (complaint_.empty()) complaint_ = std::move(what);
}

std::string PlanWorld::complaint() { return std::exchange(complaint_, {}); }

std::string PlanWorld::check() {
  for (const model::ServiceRoutePtr& route : table_->services) {
    const std::string text = FakeReader(store_, route->service->frontend).finish();
    if (text != reader_text(*route)) return route->service->frontend.to_string() + " is \"" + text + "\"";
  }
  std::size_t frontends = 0;
  if (!store_.for_each_frontend([&](const mesh_frontend_key&, std::uint32_t) { ++frontends; })) return "no frontends";
  if (frontends != table_->services.size()) return fmt::format("{} frontends", frontends);

  const base::Result<datapath::Plan> drift = datapath::drift(store_, table_);
  if (!drift) return drift.error().to_string();
  if (!drift->empty()) return "drift: " + drift->describe().front();

  const auto view = compiler_->ids();
  decltype(service_ids_) service_ids;
  decltype(backend_ids_) backend_ids;
  std::set<std::uint32_t> distinct;
  for (std::size_t i = 0; i < table_->services.size(); ++i) {
    const model::Service& service = *table_->services[i]->service;
    service_ids[service.frontend] = view->service_ids[i];
    const auto known = service_ids_.find(service.frontend);
    const bool same_service = known != service_ids_.end();
    if (same_service && known->second != view->service_ids[i]) return service.frontend.to_string() + " changed its id";
    for (std::size_t e = 0; e < service.endpoints.size(); ++e) {
      const std::uint32_t id = view->backend_ids[view->first_backend[i] + e];
      const auto key = std::pair(service.frontend, service.endpoints[e].address);
      backend_ids[key] = id;
      if (!distinct.insert(id).second) return fmt::format("backend id {} is used twice", id);
      if (datapath::address_of(store_.backend(id)) != service.endpoints[e].address) return "a backend id is wrong";
      const auto known_backend = backend_ids_.find(key);
      if (same_service && known_backend != backend_ids_.end() && known_backend->second != id) {
        return service.endpoints[e].address.to_string() + " changed its id";
      }
    }
  }
  service_ids_ = std::move(service_ids);
  backend_ids_ = std::move(backend_ids);

  for (const Socket& socket : sockets_) {
    mesh_backend now = store_.backend(socket.backend_id);
    now.weight = socket.backend.weight;
    now.flags = socket.backend.flags;
    if (!datapath::same(now, socket.backend)) return fmt::format("backend {} of a socket changed", socket.backend_id);
  }
  return {};
}

}  // namespace mesh::support
