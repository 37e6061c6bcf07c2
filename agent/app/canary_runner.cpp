// SPDX-License-Identifier: Apache-2.0
#include "app/canary_runner.hpp"

#include <poll.h>

#include <algorithm>

#include "app/internal_source.hpp"
#include "base/log.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"canary"};
constexpr auto kAnswerDeadline = std::chrono::seconds(4);  // four checks of 0.7 s, and room for a busy host

bool is_v4(datapath::CanaryKind kind) {
  return kind == datapath::CanaryKind::kTcp4 || kind == datapath::CanaryKind::kUdp4;
}

}  // namespace

/// One listener on the loop.
struct CanaryRunner::Served {
  Served(CanaryRunner& runner, const datapath::CanaryServer::Listener& which) : owner(runner), listener(which) {
    owner.loop_.poll(listener.fd.get(), POLLIN, readable);
  }
  void on_readable(std::int32_t result) {
    if (result < 0) return;  // the loop is going down
    owner.server_.serve(listener);
    owner.loop_.poll(listener.fd.get(), POLLIN, readable);
  }
  CanaryRunner& owner;
  const datapath::CanaryServer::Listener& listener;
  io::MemberOperation<Served, &Served::on_readable> readable{*this};
};

CanaryRunner::CanaryRunner(io::Loop& loop, Options options, Reported reported, datapath::CanaryServer server)
    : loop_(loop), options_(std::move(options)), reported_(std::move(reported)), server_(std::move(server)) {
  for (const auto& listener : server_.listeners()) {
    served_.push_back(std::make_unique<Served>(*this, listener));
    const auto& vip = is_v4(listener.kind) ? options_.vip4 : options_.vip6;
    if (vip) (is_v4(listener.kind) ? targets_.vip4 : targets_.vip6) = base::SocketAddress{*vip, kCanaryPort};
  }
}

CanaryRunner::~CanaryRunner() = default;

base::Result<std::unique_ptr<CanaryRunner>> CanaryRunner::open(io::Loop& loop, Options options, Reported reported) {
  auto server = MESH_TRY(datapath::CanaryServer::open());
  return std::unique_ptr<CanaryRunner>(
      new CanaryRunner(loop, std::move(options), std::move(reported), std::move(server)));
}

std::vector<model::ServicePtr> CanaryRunner::services() const {
  std::vector<model::ServicePtr> services;
  for (const auto& listener : server_.listeners()) {
    const auto& vip = is_v4(listener.kind) ? targets_.vip4 : targets_.vip6;
    if (!vip) continue;
    const bool tcp = listener.kind == datapath::CanaryKind::kTcp4 || listener.kind == datapath::CanaryKind::kTcp6;
    auto service = std::make_shared<model::Service>();
    service->name = "meshd-canary";
    service->frontend = {*vip, tcp ? model::Protocol::kTcp : model::Protocol::kUdp};
    service->endpoints.push_back({.address = listener.address});
    service->source = kInternalSource;
    service->origin = "agent.canary";
    services.push_back(std::move(service));
  }
  return services;
}

void CanaryRunner::watch(std::vector<std::string> cgroups) {
  cgroups_ = std::move(cgroups);
  std::erase_if(reports_,
                [&](const auto& entry) { return std::ranges::find(cgroups_, entry.first) == cgroups_.end(); });
  check_now();
}

void CanaryRunner::check_now() { loop_.arm(interval_, loop_.now()); }

void CanaryRunner::on_interval(base::TimePoint now) {
  loop_.arm(interval_, now + options_.interval);
  if (!asked_.empty() || answer_.in_flight()) return;  // the round before is still under way
  if (options_.paused && options_.paused()) return;
  next_ = 0;
  ask_next();
}

void CanaryRunner::ask_next() {
  if (next_ >= cgroups_.size()) return;
  if (!child_) {
    auto child = datapath::CanaryChild::spawn();
    if (!child) {
      for (; next_ < cgroups_.size(); ++next_) {
        store({.cgroup = cgroups_[next_],
               .checked_at = base::wall_now(),
               .checks = {},
               .error = "start the canary process: " + child.error().to_string()});
      }
      return;
    }
    child_.emplace(std::move(*child));
  }
  const std::string& cgroup = cgroups_[next_++];
  if (const auto asked = child_->request(options_.cgroup_root, cgroup, targets_, server_.token()); !asked) {
    child_.reset();
    store({.cgroup = cgroup, .checked_at = base::wall_now(), .checks = {}, .error = asked.error().to_string()});
    return;
  }
  asked_ = cgroup;
  loop_.poll(child_->fd(), POLLIN, answer_);
  loop_.arm(late_, loop_.now() + kAnswerDeadline);
}

void CanaryRunner::on_answer(std::int32_t result) {
  loop_.disarm(late_);
  if (std::exchange(abandoned_, false)) {
    child_.reset();
    return;
  }
  if (result < 0) return;  // the loop is going down
  auto report = child_->take_report(base::wall_now());
  const std::string cgroup = std::exchange(asked_, {});
  if (!report) {
    child_.reset();
    store({.cgroup = cgroup, .checked_at = base::wall_now(), .checks = {}, .error = report.error().to_string()});
    return;
  }
  store(std::move(*report));
  ask_next();
}

void CanaryRunner::on_answer_late(base::TimePoint) {
  store({.cgroup = std::exchange(asked_, {}),
         .checked_at = base::wall_now(),
         .checks = {},
         .error = "the canary process does not answer"});
  abandoned_ = true;
  loop_.cancel(answer_);
}

void CanaryRunner::store(datapath::CanaryReport report) {
  const auto before = reports_.find(report.cgroup);
  const bool was_ok = before == reports_.end() || before->second.ok();
  if (was_ok && !report.ok()) {
    std::string detail = report.error;
    for (const auto& check : report.checks) {
      if (!check.ok) detail += (detail.empty() ? "" : ", ") + std::string(to_string(check.kind)) + ": " + check.detail;
    }
    kLog.error("canary failed: connects are not balanced here", {{"cgroup", report.cgroup}, {"err", detail}});
  } else if (!was_ok && report.ok()) {
    kLog.info("canary works again", {{"cgroup", report.cgroup}});
  }
  const auto stored = reports_.insert_or_assign(report.cgroup, std::move(report)).first;
  reported_(stored->second);
}

}  // namespace mesh::app
