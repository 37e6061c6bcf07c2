// SPDX-License-Identifier: Apache-2.0
#include "app/xds_keeper.hpp"

#include <utility>

#include "base/clock.hpp"
#include "base/log.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"xds"};
constexpr auto kTick = std::chrono::seconds(1);

}  // namespace

XdsKeeper::XdsKeeper(Options options) : options_(std::move(options)), view_(options_.here, options_.domain) {}

base::Result<void> XdsKeeper::start() {
  const xds::Library* const library = MESH_TRY(xds::library());
  std::string listen = options_.listen;
  if (listen.starts_with("unix://")) listen.erase(5, 2);
  server_ = MESH_TRY(
      library->serve({.listen = listen, .on_refusal = [this](const xds::Refused& refused) { note_refusal(refused); }}));
  kLog.info("serving xDS", {{"listen", options_.listen}});
  thread_ = std::thread([this] { run(); });
  return {};
}

void XdsKeeper::note_refusal(const xds::Refused& refused) {
  kLog.warn("a client of xDS refuses what it is told", {{"client", refused.client},
                                                        {"type", xds::to_string(refused.type)},
                                                        {"version", refused.version},
                                                        {"why", refused.why}});
  const std::lock_guard lock(mutex_);
  refusals_.note({.client = refused.client.empty() ? "unnamed" : refused.client,
                  .what = std::string(xds::to_string(refused.type)),
                  .version = refused.version,
                  .why = refused.why},
                 base::wall_now());
}

model::Refusals XdsKeeper::refusals() const {
  const std::lock_guard lock(mutex_);
  return refusals_;
}

void XdsKeeper::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  server_.reset();
}

void XdsKeeper::set_routing(model::RoutingTablePtr routing) {
  {
    const std::lock_guard lock(mutex_);
    routing_ = std::move(routing);
  }
  changed_.notify_all();
}

void XdsKeeper::run() {
  while (true) {
    model::RoutingTablePtr routing;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kTick, [this] { return stopping_ || routing_; });
      if (stopping_) return;
      routing = std::exchange(routing_, nullptr);
    }
    if (routing) server_->set_world(view_.look(*routing));
    server_->tend(base::steady_now());
  }
}

}  // namespace mesh::app
