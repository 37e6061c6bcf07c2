// SPDX-License-Identifier: Apache-2.0
#include "model/refusal.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace mesh::model {

void Refusals::note(Refusal refusal, base::WallTime now) {
  for (std::string* const text : {&refusal.client, &refusal.version, &refusal.why}) {
    if (text->size() > kMaxText) text->resize(kMaxText);
  }
  refusal.at = now;
  ++total_;
  const auto key = [](const Refusal& one) { return std::tie(one.client, one.what, one.version, one.why); };
  const auto known = std::ranges::find(refusals_, key(refusal), key);
  if (known != refusals_.end()) {
    refusal.times += known->times;
    refusals_.erase(known);
  } else if (refusals_.size() == kMost) {
    refusals_.pop_back();
  }
  refusals_.insert(refusals_.begin(), std::move(refusal));
}

}  // namespace mesh::model
