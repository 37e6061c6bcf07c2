// SPDX-License-Identifier: Apache-2.0
// When a certificate is fetched. Pure: time and chance are passed in.
//
// At two thirds of its life, `renew_before` its end, or at a random moment of the window that the issuer suggests (RFC
// 9773). Not within a third of its life or an hour, whichever is less, whatever is suggested: an issuer that always
// says "now" is not asked without a pause. After a failure with exponential backoff and full jitter, and not before the
// issuer wants it.
#pragma once

#include <chrono>
#include <optional>

#include "acme/answers.hpp"
#include "base/backoff.hpp"
#include "base/clock.hpp"
#include "base/random.hpp"

namespace mesh::acme {

inline constexpr base::Backoff::Options kIssueBackoff{
    .base = std::chrono::minutes(5), .cap = std::chrono::hours(1), .floor = std::chrono::seconds(30)};
inline constexpr auto kAskAgain = std::chrono::hours(6);  ///< For a window, unless the issuer says when.
inline constexpr auto kAskAgainMin = std::chrono::minutes(1);
inline constexpr auto kAskAgainMax = std::chrono::hours(24);
inline constexpr auto kAskAfterFailure = std::chrono::hours(1);

struct Validity {
  base::WallTime begins;
  base::WallTime ends;
  bool operator==(const Validity&) const = default;
};

class Schedule {
 public:
  explicit Schedule(std::chrono::seconds renew_before) : renew_before_(renew_before) {}

  /// What there is now; nothing: none that is of use. Another one than before has no window yet.
  void hold(std::optional<Validity> held);
  /// The issuer answered; `retry_after` as it said.
  void suggested(const Window& window, std::optional<std::chrono::seconds> retry_after, base::WallTime now,
                 base::Random& random);
  /// It did not, or nothing that can be used: what was known stays.
  void not_suggested(std::optional<std::chrono::seconds> retry_after, base::WallTime now);
  void issued() {
    backoff_ = base::Backoff(kIssueBackoff);
    not_before_.reset();
  }
  void failed(std::optional<std::chrono::seconds> retry_after, base::WallTime now, base::Random& random);

  /// When to fetch; in the past: at once.
  [[nodiscard]] base::WallTime due() const;
  /// When to ask for a window; nothing: there is no certificate to ask for.
  [[nodiscard]] std::optional<base::WallTime> ask_at() const { return held_ ? std::optional(ask_at_) : std::nullopt; }

 private:
  std::chrono::seconds renew_before_;
  std::optional<Validity> held_;
  std::optional<Window> window_;
  base::WallTime picked_{};  ///< In window_.
  base::WallTime ask_at_{};
  std::optional<base::WallTime> not_before_;
  base::Backoff backoff_{kIssueBackoff};
};

}  // namespace mesh::acme
