// SPDX-License-Identifier: Apache-2.0
#include "app/drainer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/plural.hpp"
#include "datapath/owners.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"drain"};
constexpr std::size_t kFileMax = 8 << 20;
constexpr auto kAgedWindow = std::chrono::minutes(1);  // connections that end for their age are one event so long
constexpr const char* kOrderText = "drained by an operator";

using health::DrainReason;
using health::LeavingEndpoint;

std::string label(const std::string& service, const model::Frontend& frontend) {
  return service + " " + frontend.to_string();
}

api::DrainView view_of(const LeavingEndpoint& leaving, bool ordered) {
  return {.service = leaving.service,
          .frontend = leaving.frontend.to_string(),
          .endpoint = leaving.address.to_string(),
          .reason = std::string(health::to_string(leaving.reason)),
          .ordered = ordered,
          .since = base::format_rfc3339(leaving.since),
          .deadline = leaving.deadline ? base::format_rfc3339(*leaving.deadline) : "",
          .connections = leaving.connections,
          .reset = leaving.reset};
}

}  // namespace

std::string Drainer::path_in(const std::string& state_dir) { return state_dir + "/drains.json"; }

Drainer::Drainer(Options options, Relay relay, const datapath::Datapath& datapath, const Reconciler& reconciler,
                 observe::Journal& journal)
    : options_(std::move(options)),
      relay_(std::move(relay)),
      datapath_(datapath),
      reconciler_(reconciler),
      journal_(journal) {
  const auto text = base::read_file(path_in(options_.state_dir), kFileMax);
  if (!text) {
    if (text.error().kind != base::ErrorKind::kNotFound) error_ = text.error().to_string();
  } else if (auto orders = decode_orders(*text)) {
    orders_ = std::move(*orders);
  } else {
    error_ = orders.error().to_string();
  }
  if (!error_.empty()) kLog.error("drains that operators ordered are lost", {{"err", error_}});
  save_error_ = error_;
}

Drainer::~Drainer() { stop(); }

void Drainer::start() {
  if (auto killer = datapath_.make_killer()) {
    killer_ = std::move(*killer);
  } else {
    kLog.warn("connections are reset by sock_diag", {{"err", killer.error()}});
    killer_.emplace(datapath_.maps());
  }
  thread_ = std::thread([this] { run(); });
}

void Drainer::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Drainer::routes_changed() {
  {
    const std::lock_guard lock(mutex_);
    routes_changed_ = true;
  }
  wake_.notify_one();
}

base::Result<api::DrainList> Drainer::order(const api::DrainRequest& request) {
  const auto reconciled = reconciler_.latest();
  if (!reconciled->snapshot) {
    return base::fail(base::ErrorKind::kUnavailable, "drain " + request.endpoint + ": the services are not known yet",
                      "try again in a moment");
  }
  DrainCommand command;
  {
    const std::lock_guard lock(mutex_);
    command = MESH_TRY(read_drain(request, *reconciled->snapshot, orders_, base::wall_now()));
    orders_ = MESH_TRY(with_drain(orders_, command));
    orders_changed_ = true;
  }
  wake_.notify_one();
  api::DrainList list;
  for (const auto& [frontend, endpoint] : command.endpoints) {
    const model::ServicePtr* service = reconciled->snapshot->find(frontend);
    const std::string name = service == nullptr ? frontend.to_string() : (*service)->name;
    note(frontend, name, endpoint.to_string(), command.undo ? "drain undone by an operator" : kOrderText);
    LeavingEndpoint leaving{.service = name, .frontend = frontend, .address = endpoint};
    leaving.reason = DrainReason::kDrained;
    leaving.since = command.order.since;
    list.items.push_back(view_of(leaving, !command.undo));
  }
  return list;
}

api::DrainList Drainer::list() const {
  const std::lock_guard lock(mutex_);
  api::DrainList list{.unreachable = unreachable_, .error = error_};
  for (const LeavingEndpoint& leaving : leaving_) {
    list.items.push_back(view_of(leaving, orders_.contains({leaving.frontend, leaving.address})));
  }
  return list;
}

Drainer::Counts Drainer::counts() const {
  const std::lock_guard lock(mutex_);
  Counts counts = counts_;
  counts.leaving = leaving_.size();
  return counts;
}

model::StandingChanges Drainer::standing() const {
  health::StandingBoard board;
  const std::lock_guard lock(mutex_);
  for (const auto& [key, order] : orders_) {
    board.set_drain(key.first, key.second, health::DrainAspect{order.since, kOrderText});
  }
  return board.take_changes();
}

void Drainer::put_on_board(health::StandingBoard& board) {
  const std::lock_guard lock(mutex_);
  if (orders_ == on_board_) return;
  for (const auto& [key, order] : on_board_) {
    if (!orders_.contains(key)) board.set_drain(key.first, key.second, std::nullopt);
  }
  for (const auto& [key, order] : orders_) {
    board.set_drain(key.first, key.second, health::DrainAspect{order.since, kOrderText});
  }
  on_board_ = orders_;
}

void Drainer::run() {
  base::TimePoint last{};
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    wake_.wait_until(lock, next_, [this] { return stopping_ || routes_changed_ || orders_changed_; });
    wake_.wait_until(lock, last + options_.pace, [this] { return stopping_; });
    if (stopping_) return;
    routes_changed_ = false;
    const bool to_save = std::exchange(orders_changed_, false);
    const health::DrainOrders orders = orders_;
    lock.unlock();
    if (to_save) save(orders);
    last = base::steady_now();
    look(orders, reconciler_.latest());
    lock.lock();
  }
}

void Drainer::save(const health::DrainOrders& orders) {
  const auto saved = base::write_file_atomically(path_in(options_.state_dir), encode_orders(orders));
  save_error_ = saved ? "" : saved.error().to_string();
  if (!saved) kLog.error("drains are not saved: they end with this agent", {{"err", saved.error()}});
}

void Drainer::look(const health::DrainOrders& orders, const ReconciledPtr& reconciled) {
  next_ = base::steady_now() + health::DrainPlanner::kIdle;
  if (!reconciled->routing || reconciled->kernel_generation == 0) return;  // what an earlier agent left is in force
  const auto memory = datapath::OwnerMemory::map(datapath_.maps(), datapath::Access::kRead);
  if (!memory) {
    kLog.error("connections not looked at", {{"err", memory.error()}});
    return;
  }
  const health::DrainPlanner::Look look =
      planner_.look({.now = base::steady_now(),
                     .wall = base::wall_now(),
                     .table = reconciled->kernel,
                     .orders = orders,
                     .relayed_table = reconciled->routing,
                     .relayed = relay_.connections(),
                     .for_each_record = [&](const auto& visit) { memory->for_each(visit); }});
  next_ = look.next;
  tell(look.leaving);
  if (!look.due.empty()) reset(look);
  if (!look.relayed_due.empty()) leave_relayed(look.relayed_due);
  const std::lock_guard lock(mutex_);
  leaving_ = look.leaving;
  error_ = save_error_.empty() ? pass_error_ : save_error_;
  const bool none_left = std::ranges::all_of(look.leaving, [](const auto& one) { return one.connections == 0; });
  if (look.due.empty() && none_left) {
    unreachable_.clear();
    counts_.unreachable = 0;
  }
}

void Drainer::note_reset(const health::EndpointKey& key, DrainReason reason, std::uint64_t count) {
  const std::string name = planner_.name_of(key.first);
  note(key.first, name, key.second.to_string(),
       fmt::format("{} reset: {}", base::counted(count, "connection"), health::to_string(reason)));
  kLog.info("connections reset", {{"service", name},
                                  {"endpoint", key.second.to_string()},
                                  {"reason", health::to_string(reason)},
                                  {"connections", count}});
}

void Drainer::leave_relayed(const std::vector<health::DrainPlanner::RelayedDue>& due) {
  api::RelayLeave endpoints;
  for (const auto& one : due) {
    endpoints.items.push_back({one.key.first.address.to_string(), one.key.second.to_string()});
    note_reset(one.key, one.reason, one.count);
  }
  relay_.leave(std::move(endpoints));
  const std::lock_guard lock(mutex_);
  for (const auto& one : due) counts_.reset[static_cast<std::size_t>(one.reason)] += one.count;
}

/// One pass for everything that is due, whatever the reason and backend.
void Drainer::reset(const health::DrainPlanner::Look& look) {
  std::vector<mesh_owner> records;
  records.reserve(look.due.size());
  for (const auto& due : look.due) records.push_back(due.record);
  const datapath::KillReport report = killer_->kill(records);
  const base::TimePoint now = base::steady_now();
  next_ = now;  // the numbers that people are shown are those of before

  std::array<std::uint64_t, health::kDrainReasons> by_reason{};
  std::uint64_t failed = 0;
  std::map<std::pair<health::EndpointKey, DrainReason>, std::uint64_t> by_endpoint;
  for (std::size_t i = 0; i < look.due.size(); ++i) {
    const auto& due = look.due[i];
    const datapath::KillOutcome outcome = report.outcomes[i];
    if (outcome == datapath::KillOutcome::kGone) continue;
    const bool killed = outcome == datapath::KillOutcome::kKilled;
    planner_.tried(due, killed ? health::DrainPlanner::Attempt::kReset : health::DrainPlanner::Attempt::kFailed, now);
    if (!killed) {
      ++failed;
      continue;
    }
    ++by_reason[static_cast<std::size_t>(due.reason)];
    ++by_endpoint[{health::endpoint_of(due.record), due.reason}];
  }
  for (const auto& [what, count] : by_endpoint) {
    const auto& [key, reason] = what;
    const std::string name = planner_.name_of(key.first);
    if (reason == DrainReason::kAge) {  // one now and then, put together: the number is not in the text
      note(key.first, name, key.second.to_string(), "connection reset: age", count, kAgedWindow);
      continue;
    }
    note_reset(key, reason, count);
  }
  for (const auto& lost : report.unreachable) {
    if (!told_unreachable_.insert(lost.example.netns_cookie).second) continue;
    kLog.warn("connections can't be reset: their network namespace can't be entered",
              {{"netns_cookie", lost.example.netns_cookie},
               {"pid", lost.example.pid},
               {"command", lost.example.comm},
               {"connections", lost.sockets}});
  }
  if (report.error && pass_error_.empty()) kLog.error("connections not reset", {{"err", *report.error}});
  pass_error_ = report.error ? report.error->to_string() : "";

  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < by_reason.size(); ++i) counts_.reset[i] += by_reason[i];
  counts_.failed += failed;
  counts_.passes += report.passes;
  counts_.unreachable = report.count(datapath::KillOutcome::kUnreachable);
  unreachable_.clear();
  for (const auto& lost : report.unreachable) {
    unreachable_.push_back({lost.example.netns_cookie, lost.example.pid,
                            std::string(lost.example.comm, ::strnlen(lost.example.comm, sizeof(lost.example.comm))),
                            lost.sockets});
  }
}

/// Each drain once when it begins and once when the last connection is gone. An operator's begins with the order.
void Drainer::tell(const std::vector<LeavingEndpoint>& leaving) {
  std::map<health::EndpointKey, LeavingEndpoint> now;
  for (const LeavingEndpoint& one : leaving) {
    if (one.connections > 0) now.emplace(health::EndpointKey{one.frontend, one.address}, one);
  }
  for (const auto& [key, one] : now) {
    if (told_.contains(key)) continue;
    note(one.frontend, one.service, one.address.to_string(),
         fmt::format("{} left to it ({}), {}", base::counted(one.connections, "connection"),
                     health::to_string(one.reason),
                     one.deadline ? "reset at " + base::format_rfc3339(*one.deadline) : "which stay"));
  }
  for (const auto& [key, one] : told_) {
    if (now.contains(key)) continue;
    const bool stays = std::ranges::none_of(leaving, [&](const LeavingEndpoint& still) {
      return still.frontend == key.first && still.address == key.second;
    });
    note(one.frontend, one.service, one.address.to_string(),
         stays ? "it is left no more" : "no connection is left to it");
  }
  told_ = std::move(now);
}

void Drainer::note(const model::Frontend& frontend, const std::string& service, const std::string& endpoint,
                   std::string text, std::uint64_t count, base::Duration window) {
  journal_.note({.kind = std::string(api::history::kDrain),
                 .service = label(service, frontend),
                 .endpoint = endpoint,
                 .text = std::move(text),
                 .count = count},
                window);
}

}  // namespace mesh::app
