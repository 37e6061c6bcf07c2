// SPDX-License-Identifier: Apache-2.0
// What a client of xDS says about one type of resources on one stream: what it wants, and what it thinks of the answers
// (ACK, NACK). Pure: time is passed in.
//
// A request has the version that was accepted last and the nonce of the answer that came last; with an error it refuses
// that answer. A server that answers a refusal with the same again, and again, is slowed down: from the second refusal
// in a row on they wait.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "xds/message.hpp"

namespace mesh::discovery {

class XdsSubscription {
 public:
  static constexpr std::chrono::seconds kFirstRefusalWait{1};  ///< Before the second in a row; then it doubles.
  static constexpr std::chrono::seconds kMaxRefusalWait{30};

  explicit XdsSubscription(xds::Type type) : type_(type) {}

  /// A new stream: nothing of the last one counts. No version is named, so that the server says everything.
  void restart();
  /// Wanted from now on; empty is everything where `everything`, else nothing.
  void want(std::vector<std::string> names, base::TimePoint now, bool everything = false);
  void accept(const xds::Answer& answer, base::TimePoint now);
  void refuse(const xds::Answer& answer, std::string why, base::TimePoint now);

  /// The request to send now, if there is one.
  std::optional<xds::Request> take(base::TimePoint now);
  /// When there will be one; nothing: not before something happens.
  [[nodiscard]] std::optional<base::TimePoint> due() const { return due_; }
  [[nodiscard]] const std::string& version() const { return version_; }  ///< In force.
  [[nodiscard]] unsigned refusals() const { return refusals_; }          ///< In a row.

 private:
  const xds::Type type_;
  std::vector<std::string> names_;
  std::string version_;
  std::string nonce_;
  std::optional<std::string> error_;
  unsigned refusals_ = 0;
  bool begun_ = false;
  std::optional<base::TimePoint> due_;
};

}  // namespace mesh::discovery
