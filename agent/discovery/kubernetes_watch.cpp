// SPDX-License-Identifier: Apache-2.0
#include "discovery/kubernetes_watch.hpp"

#include <algorithm>
#include <utility>

#include "http/fetch.hpp"

namespace mesh::discovery::kubernetes {

using base::ErrorKind;
using std::chrono::milliseconds;

namespace {

constexpr std::chrono::seconds kQuick{1};  // a watch that ends sooner without an event did nothing

bool is_gone(const Status& status) {
  return status.code == 410 || status.reason == "Expired" || status.reason == "Gone";
}

/// The server's view is older than ours: another server of several, or one that was restored.
bool is_too_large(const Status& status) {
  return status.code == 504 || status.message.contains("Too large resource version");
}

}  // namespace

std::string ListWatch::target(unsigned seconds) const {
  std::string query;
  const auto add = [&query](std::string_view key, std::string_view value) {
    query += (query.empty() ? "?" : "&") + std::string(key) + "=" + http::url_encode(value);
  };
  if (!selector_.empty()) add("labelSelector", selector_);
  if (watching_) {
    add("watch", "1");
    add("resourceVersion", version_);
    add("allowWatchBookmarks", "true");
    add("timeoutSeconds", std::to_string(seconds));
  } else if (paged_) {
    add("limit", std::to_string(kPageSize));
    if (!next_.empty()) add("continue", next_);
  }
  return path_ + query;
}

bool ListWatch::on_page(const ListMeta& page) {
  next_ = page.next;
  if (!next_.empty()) return false;
  version_ = page.resource_version;  // of the list, never of an item: items are older
  paged_ = true;
  listed_ = true;
  watching_ = true;
  return true;
}

void ListWatch::on_watch_start(base::TimePoint now) {
  started_ = now;
  heard_ = false;
}

void ListWatch::on_event(const Event& event, base::TimePoint now) {
  if (!event.object.meta.resource_version.empty()) version_ = event.object.meta.resource_version;
  heard_ = true;
  failures_ = 0;
  backoff_.note_success(now);
}

void ListWatch::list_again() {
  watching_ = false;
  next_.clear();
  version_.clear();
}

ListWatch::Next ListWatch::retry(base::Error error, milliseconds at_least, base::TimePoint now, base::Random& random) {
  if (++failures_ > kMaxFailures) return {.wait = std::nullopt, .error = std::move(error)};
  return {.wait = std::max(at_least, backoff_.next(now, random)), .error = std::move(error)};
}

ListWatch::Next ListWatch::on_watch_end(base::TimePoint now, base::Random& random) {
  if (heard_ || now - started_ >= kQuick) {
    failures_ = 0;
    backoff_.note_success(now);
    return {};
  }
  Next next = retry({ErrorKind::kUnavailable, "watch " + path_ + ": it ends as soon as it begins",
                     "look at the API server, and at proxies before it", 0},
                    {}, now, random);
  if (failures_ == 1) next.error.reset();  // may be chance
  return next;
}

ListWatch::Next ListWatch::on_status(const Status& status, std::optional<std::chrono::seconds> retry_after,
                                     base::Error error, base::TimePoint now, base::Random& random) {
  const milliseconds at_least =
      std::max<milliseconds>(retry_after.value_or(std::chrono::seconds(0)), status.retry_after);
  if (is_gone(status) || (watching_ && is_too_large(status))) {
    // The first time it is the ordinary way of the protocol; again without an event in between, something is wrong.
    if (!watching_) paged_ = false;
    list_again();
    if (++failures_ == 1) return {};
    --failures_;
    return retry(std::move(error), at_least, now, random);
  }
  const bool may_pass = error.kind == ErrorKind::kUnavailable;
  if (watching_ && may_pass) return retry(std::move(error), at_least, now, random);
  return {.wait = std::nullopt, .error = std::move(error)};
}

ListWatch::Next ListWatch::on_error(base::Error error, base::TimePoint now, base::Random& random) {
  const bool may_pass = error.kind == ErrorKind::kUnavailable || error.kind == ErrorKind::kTimeout;
  if (watching_ && may_pass) return retry(std::move(error), {}, now, random);
  return {.wait = std::nullopt, .error = std::move(error)};
}

}  // namespace mesh::discovery::kubernetes
