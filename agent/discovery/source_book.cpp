// SPDX-License-Identifier: Apache-2.0
#include "discovery/source_book.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "discovery/service_keys.hpp"

namespace mesh::discovery {
namespace {

using model::SourceState;

constexpr std::size_t kToldRefusals = 1;

bool by_frontend(const model::ServicePtr& a, const model::ServicePtr& b) {
  return std::tie(a->frontend, a->name) < std::tie(b->frontend, b->name);
}

/// Collects what of an answer can't be used: the first is told, the rest counted.
class Refusals {
 public:
  void add(std::string what) {
    if (count_++ == 0) first_ = std::move(what);
  }
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

/// Sorts endpoints by address; of an address that stands twice the one of the first tier counts, with the most weight.
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

std::optional<base::Error> SourceBook::accept(std::vector<model::Service>& services) {
  Refusals refusals;
  addressed_.clear();
  std::erase_if(services, [&](model::Service& service) {
    service.source = options_.name;
    if (service.origin.empty()) service.origin = options_.name;
    if (!is_service_name(service.name)) {
      refusals.add("'" + service.name + "' can't be a service's name: it is not 1 to 253 of a-z 0-9 . - / _");
      return true;
    }
    if (service.frontend.address.port == 0) {
      refusals.add(service.name + " has no port");
      return true;
    }
    base::IpAddress& ip = service.frontend.address.ip;
    if (ip.is_unspecified()) {
      const bool v4 = ip.is_v4();
      auto given = options_.give_address(service.name, v4);
      if (!given) {
        refusals.add(given.error().to_string());
        return true;
      }
      ip = *given;
      addressed_[service.name] = v4;
    }
    // A probe connects: to UDP it says nothing, unless it has a port of its own.
    const bool udp = service.frontend.protocol == model::Protocol::kUdp;
    if (udp && service.probe && service.probe->port == 0) service.probe = nullptr;
    accept_endpoints(service, refusals);
    return false;
  });
  return refusals.error();
}

void SourceBook::touch_addresses() {
  for (const auto& [name, v4] : addressed_) (void)options_.give_address(name, v4);  // they have one
}

bool SourceBook::publish(std::vector<model::Service> services, Now now) {
  auto refused = accept(services);
  if (refused && refused_ != refused) {
    ++status_.errors;
    ++status_.errors_by_kind[static_cast<std::size_t>(refused->kind)];
  }
  bool changed = refused_ != refused;
  refused_ = std::move(refused);

  std::vector<model::ServicePtr> fresh;
  fresh.reserve(services.size());
  for (model::Service& service : services) fresh.push_back(std::make_shared<const model::Service>(std::move(service)));
  std::ranges::sort(fresh, by_frontend);
  endpoints_ = 0;
  bool different = fresh.size() != services_.size();
  auto old = services_.begin();
  for (model::ServicePtr& service : fresh) {
    endpoints_ += service->endpoints.size();
    while (old != services_.end() && by_frontend(*old, service)) ++old;
    if (old != services_.end() && (*old)->same_as(*service)) {
      service = *old++;
    } else {
      different = true;
    }
  }
  if (different || !answered_) ++status_.updates;
  services_ = std::move(fresh);
  answered_ = true;
  changed = confirm(now) || changed || different;
  if (changed) show();
  return changed;
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

bool SourceBook::set_max_stale(std::optional<std::chrono::seconds> max_stale, Now now) {
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
  if (trust_ == Trust::kAll) {
    shown_ = services_;
    return;
  }
  std::vector<model::ServicePtr> shown;
  shown.reserve(services_.size());
  for (const model::ServicePtr& service : services_) shown.push_back(under_trust(service));
  shown_ = std::move(shown);
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
  update->services = shown_;
  update->status = status();
  return update;
}

}  // namespace mesh::discovery
