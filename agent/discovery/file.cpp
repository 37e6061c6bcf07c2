// SPDX-License-Identifier: Apache-2.0
#include "discovery/file.hpp"

#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <utility>

#include "discovery/file_store.hpp"
#include "discovery/file_watcher.hpp"

namespace mesh::discovery {
namespace {

/// Keeps a watcher, if the system allows one, on a set of paths.
class Watches {
 public:
  Watches() {
    auto made = FileWatcher::make();
    if (made) {
      watcher_ = std::move(*made);
    } else {
      error_ = std::move(made).error();
    }
  }

  void set(const std::vector<std::string>& paths) {
    if (!watcher_) return;
    std::set<std::string> wanted(paths.begin(), paths.end());
    for (const std::string& path : watched_) {
      if (!wanted.contains(path)) watcher_->remove(path);
    }
    for (const std::string& path : wanted) watcher_->add(path);
    watched_ = std::move(wanted);
  }

  [[nodiscard]] int fd() const { return watcher_ ? watcher_->fd() : -1; }
  std::vector<std::string> take_changes() { return watcher_ ? watcher_->take_changes() : std::vector<std::string>{}; }
  [[nodiscard]] std::optional<base::Error> error() const { return watcher_ ? watcher_->error() : error_; }

 private:
  std::optional<FileWatcher> watcher_;
  std::optional<base::Error> error_;
  std::set<std::string> watched_;
};

}  // namespace

FileSource::FileSource(SourceInput input, Options options)
    : options_(std::move(options)), event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  MESH_ASSERT(event_.valid());
  command_.input = std::move(input);
}

FileSource::~FileSource() { stop(); }

void FileSource::start(Publish publish) {
  MESH_ASSERT(!thread_.joinable());
  thread_ = std::thread([this, publish = std::move(publish)] { run(publish); });
}

void FileSource::stop() {
  stopping_ = true;
  wake();
  if (thread_.joinable()) thread_.join();
}

void FileSource::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof(one));  // full means awake already
}

void FileSource::reconfigure(SourceInput input, Vanished vanished) {
  {
    const std::lock_guard lock(mutex_);
    // A reload by hand counts even if a newer input overtakes it.
    if (command_.vanished == Vanished::kForget) vanished = Vanished::kForget;
    command_ = {std::move(input), std::nullopt, vanished};
  }
  wake();
}

void FileSource::set_stale(base::Error reason) {
  {
    const std::lock_guard lock(mutex_);
    command_.stale = std::move(reason);
  }
  wake();
}

void FileSource::run(const Publish& publish) {
  FileStore store(std::move(options_.restored));
  Watches watches;
  auto next_rescan = base::steady_now() + options_.rescan_interval;
  while (!stopping_) {
    bool changed = false;
    Command command;
    {
      const std::lock_guard lock(mutex_);
      command = std::exchange(command_, {});
    }
    if (command.input) {
      store.configure(std::move(*command.input), command.vanished, base::wall_now());
      changed = true;
    }
    if (command.stale) {
      store.set_stale(std::move(*command.stale));
      changed = true;
    }
    for (const std::string& path : watches.take_changes()) changed = store.refresh(path, base::wall_now()) || changed;
    if (base::steady_now() >= next_rescan) {
      changed = store.rescan(FileStore::Unsettled::kSkip, base::wall_now()) || changed;
      next_rescan = base::steady_now() + options_.rescan_interval;
    }
    while (store.take_paths_changed()) {
      watches.set(store.paths());
      // What was written between reading and watching; whoever is still writing will be heard.
      changed = store.rescan(FileStore::Unsettled::kRead, base::wall_now()) || changed;
    }
    if (changed && !stopping_) publish(store.update(watches.error()));

    std::array<pollfd, 2> waits = {{{event_.get(), POLLIN, 0}, {watches.fd(), POLLIN, 0}}};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_rescan - base::steady_now()).count();
    ::poll(waits.data(), waits.size(), static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000)));
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(event_.get(), &count, sizeof(count));
  }
}

}  // namespace mesh::discovery
