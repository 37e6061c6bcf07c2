// SPDX-License-Identifier: Apache-2.0
// `meshctl certs`: the certificates that the relay's listeners show.
#include <fmt/format.h>

#include "cli/context.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

constexpr double kSoonS = 14 * 24 * 3600;

Cell expiry(const std::optional<double>& seconds) {
  if (!seconds) return "-";
  if (*seconds <= 0) return {"expired " + format_ago(-*seconds), Colour::kRed};
  return {"in " + format_age_s(*seconds), *seconds < kSoonS ? Colour::kYellow : Colour::kNone};
}

ViewOptions view_options(const Context& context) {
  return {context.style(), context.output == Output::kWide, base::wall_now()};
}

}  // namespace

std::string certificates_text(const api::CertificateList& list, const ViewOptions& options) {
  std::vector<std::string> headers = {"LISTENER", "NAMES", "KEY", "EXPIRES", "ERROR"};
  if (options.wide) headers.insert(headers.end(), {"FILE", "SUBJECT", "ISSUER", "SERIAL", "SHA-256"});
  Table table(std::move(headers));
  const auto text_or_dash = [](const std::string& text) { return text.empty() ? std::string("-") : text; };
  for (const api::ListenerCertificates& listener : list.items) {
    for (const api::RelayCertificateView& one : listener.certificates) {
      std::vector<Cell> row = {listener.listener, text_or_dash(fmt::format("{}", fmt::join(one.names, ","))),
                               text_or_dash(one.key), expiry(one.expires_in_s),
                               one.error.empty() ? Cell("-") : Cell(one.error, Colour::kRed)};
      if (options.wide) {
        for (const std::string* text : {&one.file, &one.subject, &one.issuer, &one.serial, &one.fingerprint}) {
          row.emplace_back(text_or_dash(*text));
        }
      }
      table.add(std::move(row));
    }
  }
  std::string text = table.render(options.style);
  if (!list.acme.wanted) return text;
  if (!list.acme.fetches) return text + fmt::format("\nACME: {} fetches the certificates\n", list.acme.issuer_node);
  Table acme({"ACME", "NAMES", "ISSUER", "EXPIRES", "NEXT", "LAST ERROR"});
  for (const api::AcmeCertificateView& one : list.acme.certificates) {
    acme.add({one.name, text_or_dash(fmt::format("{}", fmt::join(one.names, ","))), text_or_dash(one.issuer),
              expiry(one.expires_in_s), one.next_in_s ? "in " + format_age_s(*one.next_in_s) : "-",
              one.error.empty() ? Cell("-") : Cell(one.error, Colour::kRed)});
  }
  text += "\n" + acme.render(options.style);
  if (!list.acme.error.empty()) text += "nothing is fetched: " + list.acme.error + "\n";
  return text;
}

void add_certs(CLI::App& app, Context& context) {
  auto* command =
      app.add_subcommand("certs", "certificates of the relay's listeners and identities, and when they expire");
  command->footer(
      "Examples:\n  meshctl certs\n  meshctl certs -o wide\n  meshctl certs -o json | jq "
      "'.items[].certificates[] | select(.expires_in_s < 604800)'");
  command->callback([&context] {
    context.watchable = true;
    context.run = [&context]() -> base::Result<ExitCode> {
      const api::Json document = MESH_TRY(fetch(context, "/v1/status"));
      const auto status = MESH_TRY(api::from_document<api::Status>(document));
      api::CertificateList list;
      for (const api::RelayListenerView& listener : status.relay.report.listeners) {
        if (!listener.certificates.empty()) list.items.push_back({listener.name, listener.certificates});
      }
      for (const api::RelayIdentityView& one : status.relay.report.identities) {
        list.items.push_back({one.id, one.certificates});
      }
      list.acme = status.relay.report.acme;
      MESH_TRY(show<api::CertificateList>(context, api::to_document(list), [&](const api::CertificateList& shown) {
        context.out << certificates_text(shown, view_options(context));
      }));
      return ExitCode::kOk;
    };
  });
}

}  // namespace mesh::cli
