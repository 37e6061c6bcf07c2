// SPDX-License-Identifier: Apache-2.0
#include "datapath/quarantine.hpp"

#include <utility>

namespace mesh::datapath {

Quarantine::Quarantine(std::shared_ptr<Grace> grace, NamedBackends named)
    : grace_(std::move(grace)), named_(std::move(named)), thread_([this] { run(); }) {}

Quarantine::~Quarantine() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Quarantine::request(std::uint32_t token, Sockets sockets) {
  {
    const std::lock_guard lock(mutex_);
    requested_ = token;
    if (sockets == Sockets::kAsk) sockets_ = sockets;
  }
  changed_.notify_all();
}

std::optional<base::Result<Quarantine::Passed>> Quarantine::take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(outcome_, std::nullopt);
}

std::optional<base::Result<Quarantine::Passed>> Quarantine::wait(base::Duration limit) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, limit, [this] { return !requested_ && !busy_; });
  return std::exchange(outcome_, std::nullopt);
}

void Quarantine::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stop_ || requested_; });
    if (stop_) return;
    const std::uint32_t token = *std::exchange(requested_, std::nullopt);
    const Sockets sockets = std::exchange(sockets_, Sockets::kIgnore);
    busy_ = true;
    lock.unlock();
    base::Result<Passed> outcome = [&]() -> base::Result<Passed> {
      MESH_CHECK(grace_->wait());
      if (sockets == Sockets::kIgnore) return Passed{token, std::nullopt};
      return Passed{token, MESH_TRY(named_())};
    }();
    lock.lock();
    busy_ = false;
    outcome_ = std::move(outcome);
    changed_.notify_all();
  }
}

}  // namespace mesh::datapath
