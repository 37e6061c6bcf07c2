// SPDX-License-Identifier: Apache-2.0
#include "observe/journal.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/log.hpp"

namespace mesh::observe {
namespace {

constexpr base::log::Logger kLog{"journal"};
constexpr mode_t kMode = 0600;
constexpr std::size_t kTextMax = 1000;  // bytes of an event's text; the rest is cut off
constexpr std::size_t kLineMax = 8192;  // a longer line was not written here

std::string key_of(const api::HistoryEvent& event) { return event.kind + '\n' + event.service + '\n' + event.endpoint; }

}  // namespace

std::string encode_event(const api::HistoryEvent& event) {
  return api::detail::dump(api::detail::to_json_value(event)) + '\n';
}

std::uint64_t decode_events(std::string_view text, const std::function<void(api::HistoryEvent)>& visit) {
  std::uint64_t skipped = 0;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    const bool whole = line.size() < text.size();
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.empty()) continue;
    api::HistoryEvent event;
    std::string error = whole && line.size() <= kLineMax ? "" : "cut";
    if (error.empty()) {
      const auto json = api::detail::parse(line);
      error = json ? "" : json.error().message;
      if (json) api::detail::from_json_value(*json, event, "", error);
    }
    if (error.empty() && !event.time.empty() && !event.kind.empty()) {
      visit(std::move(event));
    } else {
      ++skipped;
    }
  }
  return skipped;
}

bool is_about(const api::HistoryEvent& event, std::string_view service) {
  if (service.empty()) return true;
  const std::string_view named = event.service;  // "orders 240.64.0.10:80/tcp"
  const std::string_view name = named.substr(0, named.find(' '));
  std::string_view address = named.substr(std::min(named.size(), name.size() + 1));
  address = address.substr(0, address.find('/'));
  if (service == name || service == address || service == named) return true;
  const auto colon = address.rfind(':');
  return colon != std::string_view::npos && service.starts_with(name) &&
         service.substr(name.size()) == address.substr(colon);
}

std::optional<api::HistoryEvent> Coalescer::admit(api::HistoryEvent event, base::Duration window, base::TimePoint now) {
  if (window <= base::Duration::zero()) return event;
  std::string key = key_of(event);
  const auto found = windows_.find(key);
  if (found == windows_.end()) {
    if (windows_.size() < kKeysMax) windows_.emplace(std::move(key), Window{now + window, window, std::nullopt});
    return event;
  }
  auto& held = found->second.held;
  if (held) event.count += held->count;
  held = std::move(event);
  return std::nullopt;
}

std::vector<api::HistoryEvent> Coalescer::take_due(base::TimePoint now) {
  std::vector<api::HistoryEvent> due;
  for (auto it = windows_.begin(); it != windows_.end();) {
    Window& window = it->second;
    if (window.end > now) {
      ++it;
    } else if (window.held) {
      due.push_back(*std::exchange(window.held, std::nullopt));
      window.end += window.length;
      ++it;
    } else {
      it = windows_.erase(it);
    }
  }
  std::ranges::sort(due, {}, &api::HistoryEvent::time);
  return due;
}

std::optional<base::TimePoint> Coalescer::next_due() const {
  std::optional<base::TimePoint> next;
  for (const auto& [key, window] : windows_) {
    if (!next || window.end < *next) next = window.end;
  }
  return next;
}

Journal::Journal(Options options) : options_(std::move(options)) {
  thread_ = std::thread([this] { run(); });
}

Journal::~Journal() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

std::string Journal::path(unsigned index) const {
  return options_.folder + "/journal.jsonl" + (index == 0 ? "" : "." + std::to_string(index));
}

void Journal::note(api::HistoryEvent event, base::Duration window) {
  if (event.time.empty()) event.time = base::format_rfc3339(base::wall_now());
  if (event.text.size() > kTextMax) event.text.resize(kTextMax);
  const auto now = base::steady_now();
  {
    const std::lock_guard lock(mutex_);
    auto admitted = coalescer_.admit(std::move(event), window, now);
    if (!admitted) return;  // the thread wakes at the end of the window, which it knows from the first one
    if (queue_.size() >= options_.queue_events) {
      ++status_.lost;
      return;
    }
    queue_.push_back(encode_event(*admitted));
  }
  changed_.notify_one();
}

Journal::Status Journal::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void Journal::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto now = stopping_ ? base::TimePoint::max() : base::steady_now();
    for (const auto& event : coalescer_.take_due(now)) queue_.push_back(encode_event(event));
    if (queue_.empty()) {
      if (stopping_) return;
      if (const auto due = coalescer_.next_due()) {
        changed_.wait_until(lock, *due);
      } else {
        changed_.wait(lock);
      }
      continue;
    }
    const auto events = std::exchange(queue_, {});
    lock.unlock();
    std::string lines;
    for (const std::string& line : events) lines += line;
    const auto written = write(lines);
    lock.lock();
    if (written) {
      status_.written += events.size();
      status_.error.clear();
      continue;
    }
    if (status_.error.empty()) kLog.error("journal not written", {{"err", written.error()}});
    status_.lost += events.size();
    status_.error = written.error().to_string();
  }
}

base::Result<void> Journal::open() {
  std::error_code ignored;  // open(2) says what is wrong
  std::filesystem::create_directories(options_.folder, ignored);
  file_.reset(::open(path(0).c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, kMode));
  struct stat info{};
  if (!file_.valid() || ::fstat(file_.get(), &info) != 0) {
    return base::fail_errno(errno, "open " + path(0), "let the agent write to agent.state_dir");
  }
  size_ = static_cast<std::size_t>(info.st_size);
  char last = '\n';
  if (size_ > 0 && ::pread(file_.get(), &last, 1, info.st_size - 1) == 1 && last != '\n') {
    if (::write(file_.get(), "\n", 1) == 1) ++size_;  // an agent that died in the middle of a line
  }
  return {};
}

void Journal::rotate() {
  file_.reset();
  for (unsigned index = options_.files - 1; index > 0; --index) {
    ::rename(path(index - 1).c_str(), path(index).c_str());  // one that is not there yet is no trouble
  }
  if (options_.files == 1) ::unlink(path(0).c_str());
}

base::Result<void> Journal::write(std::string_view lines) {
  if (!file_.valid()) MESH_CHECK(open());
  if (size_ > 0 && size_ + lines.size() > options_.file_bytes) {
    rotate();
    MESH_CHECK(open());
  }
  while (!lines.empty()) {
    const ssize_t wrote = ::write(file_.get(), lines.data(), lines.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      const int errnum = errno;
      file_.reset();  // opened anew for the next, which also ends a line that was cut
      return base::fail_errno(errnum, "write " + path(0), "make room on the file system of agent.state_dir");
    }
    size_ += static_cast<std::size_t>(wrote);
    lines.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return {};
}

api::HistoryList Journal::read(const api::HistoryRequest& request, base::WallTime now) const {
  api::HistoryList list;
  const Status state = status();
  list.lost = state.lost;
  list.error = state.error;
  const std::string since = base::format_rfc3339(now - std::chrono::seconds(request.since_s));
  std::deque<api::HistoryEvent> newest;
  for (unsigned index = options_.files; index-- > 0;) {
    // A batch is written before the size is looked at again, so a file can be larger by what the queue holds.
    const auto text = base::read_file(path(index), options_.file_bytes + options_.queue_events * kLineMax);
    if (!text) continue;
    list.lines_skipped += decode_events(*text, [&](api::HistoryEvent event) {
      if (event.time < since || !is_about(event, request.service)) return;
      newest.push_back(std::move(event));
      if (newest.size() <= request.limit) return;
      newest.pop_front();
      ++list.left_out;
    });
  }
  list.items.assign(std::make_move_iterator(newest.begin()), std::make_move_iterator(newest.end()));
  return list;
}

}  // namespace mesh::observe
