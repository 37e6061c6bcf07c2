// SPDX-License-Identifier: Apache-2.0
#include "discovery/source_book.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "discovery/rule_keys.hpp"
#include "discovery/service_keys.hpp"

namespace mesh::discovery {
namespace {

using model::SourceState;

constexpr std::size_t kToldRefusals = 1;

bool by_frontend(const model::ServicePtr& a, const model::ServicePtr& b) {
  return std::tie(a->frontend, a->name) < std::tie(b->frontend, b->name);
}

/// Sorts endpoints by address; of an address that stands twice the one of the first tier counts, with the most weight.
template <typename Refusals>
void accept_endpoints(model::Service& service, Refusals& refusals) {
  std::ranges::sort(service.endpoints, [](const model::Endpoint& a, const model::Endpoint& b) {
    return std::tie(a.address, a.tier, b.weight) < std::tie(b.address, b.tier, a.weight);
  });
  const auto [first, last] = std::ranges::unique(service.endpoints, {}, &model::Endpoint::address);
  service.endpoints.erase(first, last);
  std::erase_if(service.endpoints, [&](const model::Endpoint& endpoint) {
    if (endpoint.address.port == 0 || endpoint.address.ip.is_unspecified()) {
      refusals.add(service.name + ": " + endpoint.address.to_string() + " is no address that one can connect to");
      return true;
    }
    const auto problem = endpoint_problem(endpoint.address, service.frontend.address);
    if (problem) refusals.add(service.name + ": " + problem->first);
    return problem.has_value();
  });
}

}  // namespace

/// Collects what of an answer can't be used: the first is told, the rest counted.
class SourceBook::Refusals {
 public:
  void add(std::string what) {
    if (count_++ == 0) first_ = std::move(what);
  }
  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] std::optional<base::Error> error() const {
    if (count_ == 0) return std::nullopt;
    std::string message = "use all of the answer: " + first_;
    if (count_ > kToldRefusals) message += fmt::format(" (and {} more)", count_ - kToldRefusals);
    return base::Error{base::ErrorKind::kInvalid, std::move(message), "the rest is used", 0};
  }

 private:
  std::size_t count_ = 0;
  std::string first_;
};

SourceBook::SourceBook(Options options, Restored restored, Now now)
    : options_(std::move(options)),
      services_(std::move(restored.services)),
      started_(now.steady),
      good_at_(now.steady) {
  status_.name = options_.name;
  status_.type = options_.type;
  status_.max_stale = options_.max_stale;
  status_.since = now.wall;
  std::ranges::sort(services_, by_frontend);
  restored_ = !services_.empty();
  if (restored_) {
    status_.synced_at = restored.saved_at;
    // A clock that was set back must not make old services young.
    good_at_ = now.steady - std::max(now.wall - restored.saved_at, base::Duration::zero());
  }
  for (const auto& service : services_) endpoints_ += service->endpoints.size();
  stand_in_ = std::make_shared<const model::ProbePolicy>();
  (void)settle(now);
  show();
}

SourceBook::Taken SourceBook::take(model::ServicePtr said, Refusals& refusals) {
  const std::size_t refused_before = refusals.count();
  if (!is_service_name(said->name)) {
    refusals.add("'" + said->name + "' can't be a service's name: it is not 1 to 253 of a-z 0-9 . - / _");
    return {.said = std::move(said), .accepted = nullptr};
  }
  if (said->frontend.address.port == 0) {
    refusals.add(said->name + " has no port");
    return {.said = std::move(said), .accepted = nullptr};
  }
  auto service = std::make_shared<model::Service>(*said);
  service->source = options_.name;
  if (service->origin.empty()) service->origin = options_.name;
  base::IpAddress& ip = service->frontend.address.ip;
  if (ip.is_unspecified()) {
    auto given = options_.give_address(service->name, ip.is_v4());
    if (!given) {
      refusals.add(given.error().to_string());
      return {.said = std::move(said), .accepted = nullptr};
    }
    ip = *given;
  }
  // A probe connects: to UDP it says nothing, unless it has a port of its own.
  const bool udp = service->frontend.protocol == model::Protocol::kUdp;
  if (udp && service->probe && service->probe->port == 0) service->probe = nullptr;
  accept_endpoints(*service, refusals);
  keep_enough(*service, refusals);
  const bool as_said = service->source == said->source && service->origin == said->origin && service->same_as(*said);
  model::ServicePtr accepted = as_said ? said : std::move(service);
  return {.said = std::move(said), .accepted = std::move(accepted), .whole = refusals.count() == refused_before};
}

/// Where the answer says less than the service's guard allows, its endpoints stay as they were.
void SourceBook::keep_enough(model::Service& service, Refusals& refusals) const {
  const auto guard = std::ranges::find_if(
      options_.min_endpoints, [&](const MinEndpoints& one) { return rule_matches(one.match, service.name); });
  if (guard == options_.min_endpoints.end() || service.endpoints.size() >= guard->count) return;
  const auto is_before = [&](const model::ServicePtr& one) {
    return std::tie(one->frontend, one->name) < std::tie(service.frontend, service.name);
  };
  const auto place = std::ranges::partition_point(services_, is_before);
  if (place == services_.end() || (*place)->frontend != service.frontend || (*place)->name != service.name) return;
  const std::vector<model::Endpoint>& had = (*place)->endpoints;
  if (had.size() <= service.endpoints.size()) return;
  refusals.add(fmt::format("{}: {} endpoints, and min_endpoints is {}: the {} before stay", service.name,
                           service.endpoints.size(), guard->count, had.size()));
  service.endpoints = had;
}

void SourceBook::touch_addresses() {
  for (const Taken& taken : taken_) {
    const base::IpAddress& ip = taken.said->frontend.address.ip;
    if (taken.accepted && ip.is_unspecified()) (void)options_.give_address(taken.said->name, ip.is_v4());  // it has one
  }
}

bool SourceBook::publish(std::vector<model::ServicePtr> said, Now now) {
  Refusals refusals;
  std::vector<Taken> before = std::exchange(taken_, {});
  std::unordered_map<const model::Service*, Taken*> elsewhere;  // in `before`, not at their old place
  std::vector<std::size_t> fresh;
  taken_.reserve(said.size());
  for (std::size_t i = 0; i < said.size(); ++i) {
    if (i < before.size() && before[i].said == said[i] && before[i].whole) {
      taken_.push_back(std::move(before[i]));
      continue;
    }
    if (fresh.empty()) {
      for (std::size_t j = i; j < before.size(); ++j) {
        if (j >= said.size() || before[j].said != said[j]) elsewhere.emplace(before[j].said.get(), &before[j]);
      }
    }
    const auto known = elsewhere.find(said[i].get());
    const bool keeps = known != elsewhere.end() && known->second->whole;
    taken_.push_back(keeps ? *known->second : take(std::move(said[i]), refusals));
    fresh.push_back(i);
  }
  in_order_ = in_order_ && fresh.empty();
  bool different = false;
  std::vector<Replaced> replaced;
  if (answered_ && before.size() == taken_.size()) {
    for (const std::size_t i : fresh) replaced.push_back({before[i].accepted, &taken_[i].accepted});
  }
  if (!answered_ || before.size() != taken_.size() || !replace(replaced, different)) different = replace_all();
  return was_told(different, refusals.error(), now);
}

bool SourceBook::exchange(std::vector<model::ServicePtr> said, Now now) {
  const auto by_said = [](const Taken& taken) -> const model::ServicePtr& { return taken.said; };
  if (!std::exchange(in_order_, true)) std::ranges::sort(taken_, by_frontend, by_said);
  Refusals refusals;
  std::vector<Replaced> replaced;
  std::vector<Taken*> taken_anew;
  std::vector<model::ServicePtr> unknown;
  bool whole = !refused_.has_value();
  for (model::ServicePtr& one : said) {
    const auto place = std::ranges::lower_bound(taken_, one, by_frontend, by_said);
    if (place == taken_.end() || by_frontend(one, place->said)) {
      unknown.push_back(std::move(one));
      continue;
    }
    replaced.push_back({place->accepted, &place->accepted});
    *place = take(std::move(one), refusals);
    taken_anew.push_back(&*place);
    whole = whole && place->whole;
  }
  bool different = false;
  if (whole && unknown.empty() && replace(replaced, different)) return was_told(different, std::nullopt, now);
  for (Taken* const taken : taken_anew) taken->whole = false;  // publish() has to look at it
  for (const Taken& taken : taken_) unknown.push_back(taken.said);
  return publish(std::move(unknown), now);
}

bool SourceBook::was_told(bool different, std::optional<base::Error> refused, Now now) {
  if (refused && refused_ != refused) {
    ++status_.errors;
    ++status_.errors_by_kind[static_cast<std::size_t>(refused->kind)];
  }
  bool changed = refused_ != refused;
  refused_ = std::move(refused);
  if (different || !answered_) ++status_.updates;
  answered_ = true;
  changed = confirm(now) || changed || different;
  if (changed) show();
  return changed;
}

/// Where each is the service that it replaces, with other endpoints or settings. False: they aren't, and nothing was
/// done.
bool SourceBook::replace(const std::vector<Replaced>& replaced, bool& different) {
  const auto same_name = [](const model::ServicePtr& a, const model::ServicePtr& b) {
    return a->frontend == b->frontend && a->name == b->name;
  };
  std::vector<std::vector<model::ServicePtr>::iterator> places;
  places.reserve(replaced.size());
  for (const auto& [old, now] : replaced) {
    if (!old || !*now || !same_name(old, *now)) return false;
    const auto place = std::ranges::lower_bound(services_, old, by_frontend);
    if (place + 1 != services_.end() && same_name(*place, *(place + 1))) return false;  // it stands twice
    places.push_back(place);
  }
  for (std::size_t i = 0; i < replaced.size(); ++i) {
    model::ServicePtr& now = *replaced[i].now;
    model::ServicePtr& place = *places[i];
    if (place->same_as(*now)) {
      now = place;
      continue;
    }
    endpoints_ += now->endpoints.size();
    endpoints_ -= place->endpoints.size();
    place = now;
    different = true;
  }
  return true;
}

/// Makes `services_` from all that was taken; whether it is different from before.
bool SourceBook::replace_all() {
  std::vector<Taken*> order;
  order.reserve(taken_.size());
  for (Taken& taken : taken_) {
    if (taken.accepted) order.push_back(&taken);
  }
  std::ranges::sort(order, [](const Taken* a, const Taken* b) {
    return by_frontend(a->accepted, b->accepted) || (!by_frontend(b->accepted, a->accepted) && a < b);
  });
  const std::vector<model::ServicePtr> old = std::exchange(services_, {});
  services_.reserve(order.size());
  bool different = order.size() != old.size();
  endpoints_ = 0;
  auto candidate = old.begin();
  for (Taken* const taken : order) {
    while (candidate != old.end() && by_frontend(*candidate, taken->accepted)) ++candidate;
    if (candidate != old.end() && (*candidate)->same_as(*taken->accepted)) {
      taken->accepted = *candidate++;
    } else {
      different = true;
    }
    endpoints_ += taken->accepted->endpoints.size();
    services_.push_back(taken->accepted);
  }
  return different;
}

bool SourceBook::confirm(Now now) {
  if (!answered_ && !restored_) return false;  // nothing was said that could be confirmed
  answered_ = true;
  trouble_.reset();
  good_at_ = now.steady;
  status_.synced_at = now.wall;
  return settle(now);
}

bool SourceBook::report(base::Error error, Now now) {
  ++status_.errors;
  ++status_.errors_by_kind[static_cast<std::size_t>(error.kind)];
  const bool changed = trouble_ != error;
  trouble_ = std::move(error);
  return settle(now) || changed;
}

bool SourceBook::look(Now now) { return settle(now); }

bool SourceBook::set_limits(std::optional<std::chrono::seconds> max_stale, std::vector<MinEndpoints> min_endpoints,
                            Now now) {
  options_.min_endpoints = std::move(min_endpoints);
  options_.max_stale = max_stale;
  const bool changed = status_.max_stale != max_stale;
  status_.max_stale = max_stale;
  return settle(now) || changed;
}

SourceBook::Trust SourceBook::trust_at(Now now) {
  if (status_.state != SourceState::kStale || !options_.max_stale) return Trust::kAll;
  const base::Duration max_stale = *options_.max_stale;
  const base::Duration lead = std::min<base::Duration>(kProbeLead, max_stale / 2);
  const base::Duration age = now.steady - good_at_;
  if (age < max_stale - lead) return Trust::kAll;
  if (!probing_since_) probing_since_ = now.steady;
  return age >= max_stale && now.steady - *probing_since_ >= lead ? Trust::kConfirmed : Trust::kProbed;
}

bool SourceBook::settle(Now now) {
  SourceState state = SourceState::kConnecting;
  const bool waited = now.steady - started_ >= options_.first_answer_wait;
  if (answered_ && !trouble_) {
    state = SourceState::kSynced;
  } else if (restored_ || answered_) {
    // While the first try is under way nobody says "stale", unless it takes long.
    const bool first_try = !answered_ && !trouble_ && now.steady - started_ < kFirstTry;
    state = first_try ? SourceState::kConnecting : SourceState::kStale;
  } else if (trouble_) {
    state = SourceState::kFailed;
  }
  bool changed = state != status_.state;
  if (changed) status_.since = now.wall;
  status_.state = state;
  status_.error = trouble_ ? trouble_ : refused_;
  if (state == SourceState::kStale && !trouble_) {
    status_.error = base::Error{base::ErrorKind::kTimeout, "the registry has not answered since the agent started",
                                "what was known before stays in force", 0};
  }
  const Trust trust = trust_at(now);
  if (trust == Trust::kAll) probing_since_.reset();
  if (trust != trust_) {
    trust_ = trust;
    changed = true;
    show();
  }
  status_.only_confirmed = trust == Trust::kConfirmed;
  if (!speaking_ && (waited || restored_ || answered_ || trouble_)) changed = speaking_ = true;
  return changed;
}

model::ServicePtr SourceBook::under_trust(const model::ServicePtr& service) {
  model::Service changed = *service;
  changed.only_confirmed = trust_ == Trust::kConfirmed;
  if (!changed.probe) {
    if (changed.frontend.protocol == model::Protocol::kTcp) changed.probe = stand_in_;
  } else if (changed.probe->when != model::ProbeWhen::kAlways) {
    auto always = std::make_shared<model::ProbePolicy>(*changed.probe);
    always->when = model::ProbeWhen::kAlways;
    changed.probe = std::move(always);
  }
  return std::make_shared<const model::Service>(std::move(changed));
}

void SourceBook::show() {
  shown_.clear();
  if (trust_ == Trust::kAll) return;
  shown_.reserve(services_.size());
  for (const model::ServicePtr& service : services_) shown_.push_back(under_trust(service));
}

model::SourceStatus SourceBook::status() const {
  model::SourceStatus status = status_;
  status.services = services_.size();
  status.endpoints = endpoints_;
  return status;
}

UpdatePtr SourceBook::update() {
  if (!speaking_) return nullptr;
  auto update = std::make_shared<model::Update>();
  update->generation = ++generation_;
  update->services = trust_ == Trust::kAll ? services_ : shown_;
  update->status = status();
  return update;
}

}  // namespace mesh::discovery
