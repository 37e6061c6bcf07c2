// SPDX-License-Identifier: Apache-2.0
#include "health/prober.hpp"

#include <pthread.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <future>

namespace mesh::health {
namespace {

constexpr unsigned kLoopEntries = 1024;
constexpr std::size_t kLatestStride = 256;  ///< Services looked up in one step of the loop.
constexpr auto kLatestPatience = std::chrono::seconds(1);

/// Kept connections may take half of the process's descriptors; the other half is for everybody else.
std::size_t kept_connections_max() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  return std::min<std::size_t>(limit.rlim_cur / 2, 65536);
}

}  // namespace

Prober::Prober(Options options) : options_(std::move(options)) {}

Prober::~Prober() { stop(); }

base::Result<void> Prober::start(Publish publish) {
  MESH_ASSERT(!thread_.joinable() && engine_ == nullptr);
  loop_ = MESH_TRY(io::make_loop(options_.loop, kLoopEntries));
  const std::size_t descriptors = kept_connections_max();
  engine_ =
      std::make_unique<Engine>(*loop_.loop,
                               Engine::Options{.max_probes_per_second = options_.max_probes_per_second,
                                               .node_seed = options_.node_seed,
                                               .user_agent = "meshd/" + options_.version + " health-check",
                                               .in_flight_max = std::clamp<std::size_t>(descriptors / 2, 64, 4096),
                                               .kept_connections_max = descriptors},
                               cells_, std::move(publish));
  {
    const std::lock_guard lock(mutex_);
    running_ = true;
    announced_ = true;
  }
  loop_.loop->post([this] { take_mail(); });
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);  // signals are for the main thread
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), "meshd-prober");
    loop_.loop->run();
  });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {};
}

void Prober::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    running_ = false;
  }
  loop_.loop->post([this] { loop_.loop->stop(); });
  thread_.join();
  engine_.reset();
}

void Prober::set_services(model::SnapshotPtr snapshot) {
  const std::lock_guard lock(mutex_);
  mail_.snapshot = std::move(snapshot);
  notify();
}

void Prober::set_used(UsedServicesPtr used) {
  const std::lock_guard lock(mutex_);
  mail_.used = std::move(used);
  notify();
}

void Prober::restore(model::HealthView view) {
  const std::lock_guard lock(mutex_);
  mail_.restored = std::move(view);
  notify();
}

void Prober::set_max_probes_per_second(unsigned rate) {
  const std::lock_guard lock(mutex_);
  mail_.rate = rate;
  notify();
}

/// With mutex_ held.
void Prober::notify() {
  if (!running_ || announced_) return;
  announced_ = true;
  loop_.loop->post([this] { take_mail(); });
}

void Prober::take_mail() {
  Mail mail;
  {
    const std::lock_guard lock(mutex_);
    std::swap(mail, mail_);
    announced_ = false;
  }
  if (mail.rate) engine_->set_max_probes_per_second(*mail.rate);
  if (mail.restored) engine_->restore(*std::move(mail.restored));
  if (mail.used) engine_->set_used(*std::move(mail.used));
  if (mail.snapshot) engine_->set_services(*std::move(mail.snapshot));
}

std::vector<model::ServiceHealthPtr> Prober::latest(const std::vector<model::Frontend>& frontends) {
  using Part = std::vector<model::ServiceHealthPtr>;
  std::vector<model::ServiceHealthPtr> all;
  all.reserve(frontends.size());
  const auto deadline = base::steady_now() + kLatestPatience;
  for (std::size_t from = 0; from < frontends.size(); from += kLatestStride) {
    const auto to = std::min(from + kLatestStride, frontends.size());
    std::vector<model::Frontend> asked(frontends.begin() + static_cast<std::ptrdiff_t>(from),
                                       frontends.begin() + static_cast<std::ptrdiff_t>(to));
    std::promise<Part> promise;
    std::future<Part> answer = promise.get_future();
    {
      const std::lock_guard lock(mutex_);
      if (!running_) return {};
      loop_.loop->post([this, asked = std::move(asked), promise = std::move(promise)]() mutable {
        Part part;
        part.reserve(asked.size());
        for (const model::Frontend& frontend : asked) part.push_back(engine_->latest(frontend));
        promise.set_value(std::move(part));
      });
    }
    if (answer.wait_until(deadline) != std::future_status::ready) return {};
    std::ranges::move(answer.get(), std::back_inserter(all));
  }
  return all;
}

model::ServiceHealthPtr Prober::latest(const model::Frontend& frontend) {
  auto found = latest(std::vector{frontend});
  return found.empty() ? nullptr : std::move(found.front());
}

ProbeStats Prober::stats() {
  ProbeStats stats;
  cells_.read(stats);
  if (loop_.loop != nullptr) {
    stats.loop = loop_.loop->name();
    stats.loop_reason = loop_.reason;
    stats.longest_step = loop_.loop->take_longest_step();
  }
  return stats;
}

}  // namespace mesh::health
