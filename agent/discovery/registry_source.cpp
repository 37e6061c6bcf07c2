// SPDX-License-Identifier: Apache-2.0
#include "discovery/registry_source.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "base/log.hpp"

namespace mesh::discovery {
namespace {

constexpr base::log::Logger kLog{"source"};
constexpr auto kTouchInterval = std::chrono::hours(6);  ///< Names that are in use hold their addresses.

SourceBook::Now now() { return {base::steady_now(), base::wall_now()}; }

}  // namespace

class RegistrySource::Line final : public Feed {
 public:
  explicit Line(RegistrySource& source) : source_(source) {}

  void publish(std::vector<model::ServicePtr> services) override {
    source_.change_book([&](SourceBook& book) { return book.publish(std::move(services), now()); });
    note_success();
  }
  void exchange(std::vector<model::ServicePtr> services) override {
    source_.change_book([&](SourceBook& book) { return book.exchange(std::move(services), now()); });
    note_success();
  }
  void confirm() override {
    source_.change_book([](SourceBook& book) { return book.confirm(now()); });
    note_success();
  }
  void report(base::Error error) override {
    kLog.warn("source in trouble", {{"source", source_.options_.book.name}, {"err", error}});
    source_.change_book([&](SourceBook& book) { return book.report(std::move(error), now()); });
  }
  void refused(model::Refusal refusal) override {
    source_.change_book([&](SourceBook& book) {
      book.note_refusal(std::move(refusal), now());
      return false;  // for people, who ask for status()
    });
  }
  void leave_alone_for(std::chrono::milliseconds duration) override { left_alone_ = std::max(left_alone_, duration); }
  bool wait(std::chrono::milliseconds duration) override {
    const base::TimePoint until = base::steady_now() + duration;
    while (!stopping()) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - base::steady_now()).count();
      if (left <= 0) return true;
      pollfd wake{source_.event_.get(), POLLIN, 0};
      ::poll(&wake, 1, static_cast<int>(std::min<std::int64_t>(left, 3'600'000)));
    }
    return false;
  }
  [[nodiscard]] bool stopping() const override { return source_.ending_; }
  [[nodiscard]] int wake_fd() const override { return source_.event_.get(); }

  [[nodiscard]] std::chrono::milliseconds left_alone() const { return left_alone_; }

 private:
  void note_success() {
    const std::lock_guard lock(source_.mutex_);
    source_.backoff_.note_success(base::steady_now());
  }
  RegistrySource& source_;
  std::chrono::milliseconds left_alone_{0};
};

RegistrySource::RegistrySource(std::unique_ptr<Registry> client, Options options)
    : options_(std::move(options)),
      book_(options_.book, options_.restored, now()),
      backoff_(options_.backoff),
      random_(options_.seed),
      next_client_(std::move(client)),
      touched_at_(base::steady_now()),
      event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  MESH_ASSERT(event_.valid());
}

RegistrySource::~RegistrySource() { stop(); }

void RegistrySource::start(Publish publish) {
  MESH_ASSERT(!thread_.joinable());
  publish_ = std::move(publish);
  change_book([](SourceBook&) { return true; });
  thread_ = std::thread([this] { run(); });
}

void RegistrySource::stop() {
  ask_to_stop();
  if (thread_.joinable()) thread_.join();
}

void RegistrySource::ask_to_stop() {
  stopping_ = true;
  ending_ = true;
  wake();
}

void RegistrySource::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof(one));  // full means awake already
}

void RegistrySource::clear_wake() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(event_.get(), &count, sizeof(count));
}

void RegistrySource::reconfigure(std::unique_ptr<Registry> client, std::optional<std::chrono::seconds> max_stale,
                                 std::vector<MinEndpoints> min_endpoints) {
  change_book([&](SourceBook& book) {
    next_client_ = std::move(client);
    ending_ = true;
    wake();  // under the lock: the thread clears it where it takes the client
    return book.set_limits(max_stale, std::move(min_endpoints), now());
  });
}

void RegistrySource::look() {
  change_book([&](SourceBook& book) {
    if (base::steady_now() - touched_at_ >= kTouchInterval) {
      touched_at_ = base::steady_now();
      book.touch_addresses();
    }
    return book.look(now());
  });
}

model::SourceStatus RegistrySource::status() const {
  const std::lock_guard lock(mutex_);
  return book_.status();
}

std::vector<model::ServicePtr> RegistrySource::services() const {
  const std::lock_guard lock(mutex_);
  return book_.services();
}

template <typename Change>
void RegistrySource::change_book(const Change& change) {
  const std::lock_guard lock(mutex_);
  const model::SourceState before = book_.status().state;
  const bool changed = change(book_);
  if (options_.keep_addresses) {
    if (const auto kept = options_.keep_addresses(); !kept) {
      kLog.error("virtual addresses not kept on disk", {{"source", options_.book.name}, {"err", kept.error()}});
    }
  }
  if (!changed || !publish_ || stopping_) return;
  UpdatePtr update = book_.update();
  if (!update) return;
  if (before != update->status.state) {
    kLog.info("source", {{"source", update->status.name},
                         {"state", model::to_string(update->status.state)},
                         {"services", update->status.services},
                         {"endpoints", update->status.endpoints}});
  }
  publish_(std::move(update));
}

void RegistrySource::run() {
  std::unique_ptr<Registry> client;
  while (!stopping_) {
    {
      const std::lock_guard lock(mutex_);
      if (next_client_) client = std::move(next_client_);
      clear_wake();
      ending_ = stopping_.load();
    }
    Line line(*this);
    const auto result = client->run(line);
    if (ending_) continue;
    std::chrono::milliseconds pause{};
    {
      const std::lock_guard lock(mutex_);
      pause = backoff_.next(base::steady_now(), random_);
    }
    if (!result) {
      base::Error error = result.error();
      line.report(std::move(error));
    }
    line.wait(std::max(pause, line.left_alone()));
  }
}

}  // namespace mesh::discovery
