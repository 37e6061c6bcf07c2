// SPDX-License-Identifier: Apache-2.0
#include "discovery/xds_subscription.hpp"

#include <algorithm>
#include <utility>

namespace mesh::discovery {

using base::TimePoint;

void XdsSubscription::restart() {
  names_.clear();
  version_.clear();
  nonce_.clear();
  error_.reset();
  refusals_ = 0;
  begun_ = false;
  due_.reset();
}

void XdsSubscription::want(std::vector<std::string> names, TimePoint now, bool everything) {
  const bool nothing = names.empty() && !everything;
  if (begun_ ? names == names_ : nothing) return;
  begun_ = true;
  names_ = std::move(names);
  due_ = now;
}

void XdsSubscription::accept(const xds::Answer& answer, TimePoint now) {
  version_ = answer.version;
  nonce_ = answer.nonce;
  error_.reset();
  refusals_ = 0;
  due_ = now;
}

void XdsSubscription::refuse(const xds::Answer& answer, std::string why, TimePoint now) {
  nonce_ = answer.nonce;
  error_ = std::move(why);
  due_ = now;
  if (++refusals_ > 1) {
    const unsigned doublings = std::min(refusals_ - 2, 5U);
    due_ = now + std::min(kMaxRefusalWait, kFirstRefusalWait * (1 << doublings));
  }
}

std::optional<xds::Request> XdsSubscription::take(TimePoint now) {
  if (!due_ || *due_ > now) return std::nullopt;
  due_.reset();
  return xds::Request{.type = type_, .version = version_, .nonce = nonce_, .error = error_, .names = names_};
}

}  // namespace mesh::discovery
