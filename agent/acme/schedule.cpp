// SPDX-License-Identifier: Apache-2.0
#include "acme/schedule.hpp"

#include <algorithm>

namespace mesh::acme {
namespace {

base::Duration pause_of(std::optional<std::chrono::seconds> said, base::Duration otherwise) {
  if (!said) return otherwise;
  return std::clamp<base::Duration>(*said, kAskAgainMin, kAskAgainMax);
}

}  // namespace

void Schedule::hold(std::optional<Validity> held) {
  if (held_ == held) return;
  held_ = held;
  window_.reset();
  ask_at_ = {};
}

void Schedule::suggested(const Window& window, std::optional<std::chrono::seconds> retry_after, base::WallTime now,
                         base::Random& random) {
  ask_at_ = now + pause_of(retry_after, kAskAgain);
  if (window_ == window) return;  // the moment that was picked stays
  window_ = window;
  const auto span = static_cast<std::uint64_t>((window.end - window.start).count());
  picked_ = window.start + base::Duration(static_cast<std::int64_t>(random.below(span)));
}

void Schedule::not_suggested(std::optional<std::chrono::seconds> retry_after, base::WallTime now) {
  ask_at_ = now + pause_of(retry_after, kAskAfterFailure);
}

void Schedule::failed(std::optional<std::chrono::seconds> retry_after, base::WallTime now, base::Random& random) {
  const base::Duration pause = backoff_.next({}, random);
  not_before_ = now + std::max<base::Duration>(pause, retry_after.value_or(std::chrono::seconds(0)));
}

base::WallTime Schedule::due() const {
  base::WallTime due{};
  if (held_) {
    const base::Duration life = held_->ends - held_->begins;
    const base::Duration before = renew_before_.count() == 0 ? life / 3 : base::Duration(renew_before_);
    due = window_ ? picked_ : held_->ends - before;
    due = std::max(due, held_->begins + std::min<base::Duration>(life / 3, std::chrono::hours(1)));
  }
  return not_before_ ? std::max(due, *not_before_) : due;
}

}  // namespace mesh::acme
